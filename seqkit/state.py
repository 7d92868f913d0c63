"""The state of models, and the protocols between models and everything that decodes with them.

A *state* is `None`, a tensor whose axis 0 is the row, or a (named) tuple of states. It may contain an `int` that is
equal for all rows and is passed through, and named tuples that select their rows themselves (`Selective`). *Memory*
follows the same rule with one row a sentence and changes only when finished sentences are removed; *state* has one row
a hypothesis, the K rows of a sentence adjacent, and is replaced at each step. `None` means that no token is read yet.

    memory, state = model.start(source)                    # encode once
    logits, state = model.advance(tokens, memory, state)   # (N, T) -> (N, T, V), any T >= 1

A state is consumed by `advance`: to use it twice, first copy it by `map_state(Tensor.clone, state)`.
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
    """The result of one call of `advance`."""

    logits: Tensor  # (N, T, V)
    state: State


class Features(NamedTuple):
    """The inputs of the output layer, and the new state."""

    hidden: Tensor  # (N, T, D)
    state: State
    penalty: Tensor | None = None  # (N, T) the terms that regularisers add to the objective; only in training


class LogProbs(NamedTuple):
    """The log-probabilities of given tokens, and the new state."""

    values: Tensor  # (N, T), in nats
    state: State


@runtime_checkable
class Decodable(Protocol):
    """The interface by which search, scoring and ensembles use a model."""

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode `source` (None for a language model) into memory (rows = sentences) and a first state."""
        ...

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """Read tokens (N, T), T >= 1, and predict the token after each of them: logits (N, T, V)."""
        ...


class Scorable(Decodable, Protocol):
    """A model that computes the log-probabilities of given tokens faster than those of the whole vocabulary."""

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """The log-probabilities (N, T) that `advance` gives to `targets` (N, T) after `inputs` (N, T)."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A state, a named tuple, with a more efficient selection of rows than copying the rows of each tensor.

    Its first tensor has a row a hypothesis; `map_state` maps its tensors as those of any other state.
    """

    def with_rows(self, rows: Tensor) -> State:
        """The rows with the indices `rows` (M,), in that order."""
        ...


class Output(Protocol):
    """The output layer, which is separate from the decoder so that losses can compute it in chunks."""

    @property
    def weight(self) -> Tensor:
        """The weights of each token, (V, D)."""
        ...

    @property
    def bias(self) -> Tensor:
        """The bias of each token, (V,)."""
        ...

    def __call__(self, hidden: Tensor) -> Tensor:
        """The logits of hidden states: (..., D) -> (..., V)."""
        ...


class Trainable(Decodable, Protocol):
    """A neural model, whose output layer training and scoring apply in chunks, so that full logits never exist."""

    @property
    def output(self) -> Output:
        """The output layer."""
        ...

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """`advance` without the output layer: tokens (N, T) -> (N, T, D)."""
        ...


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply `function` to every tensor of a state, for example to detach, clone or move it."""
    if isinstance(state, Tensor):
        return function(state)
    return _map_parts(lambda part: map_state(function, part), state)


def _map_parts(function: Callable[[State], State], state: State) -> State:
    if state is None or isinstance(state, int):
        return state
    parts = [function(part) for part in state]
    if hasattr(state, "_fields"):  # a named tuple keeps its type
        return type(state)(*parts)
    return tuple(parts)


def select(state: State, rows: Tensor) -> State:
    """The rows with the indices `rows` (M,), in that order: reorders, repeats or drops hypotheses."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    if isinstance(state, Selective):
        return state.with_rows(rows)
    return _map_parts(lambda part: select(part, rows), state)


def join(states: Sequence[State]) -> State:
    """Concatenate the rows of several states of the same structure."""
    if len(states) == 1:
        return states[0]
    columns = iter([torch.cat(column) for column in zip(*map(tensors_of, states), strict=True)])
    return map_state(lambda _: next(columns), states[0])


def tensors_of(state: State) -> list[Tensor]:
    """The tensors of a state, in the order of `map_state`."""
    tensors: list[Tensor] = []
    map_state(lambda tensor: tensors.append(tensor) or tensor, state)  # type: ignore[func-returns-value]
    return tensors


def rows_of(state: State) -> int | None:
    """The number of rows of a state; None for a state without tensors."""
    if isinstance(state, Tensor):
        return state.shape[0]
    if state is None or isinstance(state, int):
        return None
    return next((n for n in (rows_of(part) for part in cast(tuple[Any, ...], state)) if n is not None), None)
