"""The state rule, and the contract between models and everything that decodes with them.

A *state* is `None`, a tensor whose axis 0 is the row, or a (named) tuple of states; an `int` that is equal for all rows
may stand in it and is passed through, and a named tuple may see to its rows itself (`Selective`). *Memory* obeys the
same rule with one row a sentence and changes only when finished sentences leave; *state* has one row a hypothesis, the
K rows of a sentence adjacent, and is replaced at each step. `None` means that nothing has been read yet.

    memory, state = model.start(source)                    # encode once
    logits, state = model.advance(tokens, memory, state)   # (N, T) -> (N, T, V), any T >= 1

A state is consumed by `advance`: whoever needs it twice takes `map_state(Tensor.clone, state)` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from seqkit.batch import Padded

__all__ = [
    "Decodable",
    "Features",
    "LogProbs",
    "Memory",
    "Output",
    "Scorable",
    "Selective",
    "State",
    "Step",
    "Trainable",
    "join",
    "map_state",
    "rows_of",
    "select",
    "tensors_of",
]

# A recursive alias (None | Tensor | int | tuple of states) cannot describe named tuples to the type checker.
State = Any
Memory = Any


class Step(NamedTuple):
    """What one call of `advance` gives back."""

    logits: Tensor  # (N, T, V)
    state: State


class Features(NamedTuple):
    """What the output layer reads, before it is read."""

    hidden: Tensor  # (N, T, D)
    state: State
    penalty: Tensor | None = None  # (N, T) what regularisers add to the objective; only in training


class LogProbs(NamedTuple):
    """What given tokens had for probabilities."""

    values: Tensor  # (N, T), in nats
    state: State


@runtime_checkable
class Decodable(Protocol):
    """All that search, scoring and ensembles know of a model."""

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode `source` (None for a language model) into memory (rows = sentences) and a first state."""
        ...

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """Read tokens (N, T), T >= 1, and predict what follows each of them: logits (N, T, V)."""
        ...


class Scorable(Decodable, Protocol):
    """A model that can look up given tokens for less than it costs to spread probability over the whole vocabulary."""

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """What `advance` gives to `targets` (N, T) after `inputs` (N, T)."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A state, a named tuple, that knows better than to copy each of its tensors when rows are selected.

    Its first tensor has a row a hypothesis; `map_state` goes through its tensors as through those of any other.
    """

    def with_rows(self, rows: Tensor) -> State:
        """The rows (M,) that are named, in that order."""
        ...


class Output(Protocol):
    """The last layer, kept apart so that losses can work through it in chunks."""

    @property
    def weight(self) -> Tensor:
        """A row for each token, (V, D)."""
        ...

    @property
    def bias(self) -> Tensor:
        """A number for each token, (V,)."""
        ...

    def __call__(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        ...


class Trainable(Decodable, Protocol):
    """A neural model: training and scoring stop before the output layer, so that whole logits need never exist."""

    @property
    def output(self) -> Output:
        """The last layer."""
        ...

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """`advance` up to, and without, the output layer: tokens (N, T) -> (N, T, D)."""
        ...


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply `function` to every tensor of a state: detach, clone, move, re-order."""
    if isinstance(state, Tensor):
        return function(state)
    return _over_parts(lambda part: map_state(function, part), state)


def _over_parts(function: Callable[[State], State], state: State) -> State:
    if state is None or isinstance(state, int):
        return state
    parts = [function(part) for part in state]
    if hasattr(state, "_fields"):  # a named tuple keeps its type
        return type(state)(*parts)
    return tuple(parts)


def select(state: State, rows: Tensor) -> State:
    """Keep the rows that `rows` (M,) names, in that order: re-order, widen or drop hypotheses."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if isinstance(state, Selective):
        return state.with_rows(rows)
    return _over_parts(lambda part: select(part, rows), state)


def join(states: Sequence[State]) -> State:
    """The rows of several states of one kind as one state."""
    if len(states) == 1:
        return states[0]
    columns = iter([torch.cat(column) for column in zip(*map(tensors_of, states), strict=True)])
    return map_state(lambda _: next(columns), states[0])


def tensors_of(state: State) -> list[Tensor]:
    """The tensors of a state, in the order in which `map_state` meets them."""
    found: list[Tensor] = []
    map_state(lambda tensor: found.append(tensor) or tensor, state)  # type: ignore[func-returns-value]
    return found


def rows_of(state: State) -> int | None:
    """How many rows a state has; None when it holds no tensor."""
    if isinstance(state, Tensor):
        return state.shape[0]
    if state is None or isinstance(state, int):
        return None
    return next((n for n in (rows_of(part) for part in cast(tuple[Any, ...], state)) if n is not None), None)
