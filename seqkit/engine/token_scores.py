"""The log-probability of every token of a text, whatever the batches; what is scored together is said by the context.

lines             each line alone, from <s> to </s>
whole             the text as one row, the state carried from its first token to its last
blocks of 4,      <s> a b c                  counted: a b c d
overlap 2             b c d e                counted:     e f, predicted from at least two tokens
                          d e f g            counted:         g h
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seqkit.data.batching import length_batches
from seqkit.data.datasets import Encoded
from seqkit.data.loading import line_batch, translation_batch
from seqkit.errors import ConfigError
from seqkit.state import Scorable, State, Trainable, map_state
from seqkit.text.vocabulary import BOS, EOS

__all__ = [
    "Blocks",
    "Context",
    "dynamic_log_probs",
    "line_sums",
    "pair_log_probs",
    "stream_of",
    "token_features",
    "token_log_probs",
    "words_of",
]

Values = NDArray[np.float64]
BUDGET = 4096  # tokens scored at a time


class Blocks(NamedTuple):
    """Blocks of `size` tokens, the first `overlap` of each (but the first block) read and not counted."""

    size: int
    overlap: int


Context = Literal["lines", "whole"] | Blocks


def words_of(context: Context) -> str:
    """A context in words, as it stands beside a figure."""
    match context:
        case "lines":
            return "each line alone"
        case "whole":
            return "the whole text in one row"
        case Blocks(size, overlap):
            return f"blocks of {size} tokens, {overlap} of them read and not counted"


def stream_of(lines: Encoded) -> NDArray[np.int32]:
    """All lines in one row of tokens, `</s>` after each: (tokens + lines,)."""
    stream = np.full(len(lines.ids) + len(lines), EOS, dtype=np.int32)
    stream[np.arange(len(lines.ids)) + np.repeat(np.arange(len(lines)), lines.lengths)] = lines.ids
    return stream


@torch.no_grad()
def token_log_probs(
    model: Scorable,
    lines: Encoded,
    context: Context,
    *,
    device: torch.device,
    budget: int = BUDGET,
    share: tuple[int, int] = (0, 1),
    piece_done: Callable[[], object] | None = None,
) -> Values:
    """The log-probability of each token of `stream_of(lines)`, in nats: (tokens + lines,), whatever the budget.

    `share` (rank, world) scores this process's part of the batches only and leaves the rest at zero. `piece_done` is
    called after each and may raise to leave the rest. Raises ConfigError for a context that makes no sense.
    """
    found = np.zeros(len(lines.ids) + len(lines), dtype=np.float64)
    for piece, state in _steps(lines, context, budget, share):
        inputs, targets = piece.to(device)
        memory, first = model.start(None)
        values, after = model.log_probs(inputs, targets, memory, state.value if piece.continues else first)
        state.value = after if context == "whole" else None
        found[piece.places[piece.counted]] = values.cpu().double().numpy()[piece.counted]
        if piece_done is not None:
            piece_done()
    return found


@torch.no_grad()
def token_features(
    model: Trainable, lines: Encoded, context: Context, *, device: torch.device, budget: int = BUDGET
) -> NDArray[np.float32]:
    """What the output layer reads where each token of `stream_of(lines)` is predicted: (tokens + lines, D)."""
    rows: NDArray[np.float32] = np.zeros((len(lines.ids) + len(lines), model.output.weight.shape[1]), dtype=np.float32)
    for piece, state in _steps(lines, context, budget, (0, 1)):
        inputs, _ = piece.to(device)
        memory, first = model.start(None)
        found = model.features(inputs, memory, state.value if piece.continues else first)
        state.value = found.state if context == "whole" else None
        rows[piece.places[piece.counted]] = found.hidden.float().cpu().numpy()[piece.counted]
    return rows


def dynamic_log_probs(
    model: nn.Module, lines: Encoded, context: Context, *, rate: float, segment: int, device: torch.device
) -> Values:
    """The log-probability of each token by a model that goes on learning from the text it has just scored.

    After each segment of `segment` tokens, each line or each block, one step of plain gradient descent at `rate` on its
    mean loss (Krause et al., 2018, without their scaling). The model is left as it was: a copy learns.
    """
    learner = copy.deepcopy(model).eval()  # no dropout; gradients do not depend on the mode
    learning: Scorable = learner  # type: ignore[assignment]  # every language model is one
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError(
            "this model was counted, not trained: it cannot learn while it is scored", "leave out --dynamic"
        )
    budget = context.size if isinstance(context, Blocks) else segment
    found = np.zeros(len(lines.ids) + len(lines), dtype=np.float64)
    for piece, state in _steps(lines, context, budget, (0, 1), in_order=True):
        inputs, targets = piece.to(device)
        memory, first = learning.start(None)
        before = map_state(torch.Tensor.detach, state.value) if piece.continues else first
        values, after = learning.log_probs(inputs, targets, memory, before)
        state.value = after if context == "whole" else None
        counted = torch.from_numpy(piece.counted).to(device)
        loss = -values[counted].mean()
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                if slope is not None:
                    parameter.add_(slope, alpha=-rate)
        found[piece.places[piece.counted]] = values.detach().cpu().double().numpy()[piece.counted]
    return found


@torch.no_grad()
def pair_log_probs(
    model: Scorable, source: Encoded, target: Encoded, *, device: torch.device, budget: int = BUDGET
) -> Values:
    """The log-probability of each token of the targets and their `</s>`, given the sources, laid out like
    `stream_of(target)`."""
    starts = target.offsets[:-1] + np.arange(len(target))
    found = np.zeros(len(target.ids) + len(target), dtype=np.float64)
    for indices in length_batches(np.maximum(source.lengths, target.lengths) + 1, budget=budget):
        batch = translation_batch(source, target, indices).to(device)
        assert batch.inputs is not None  # translation batches always have them
        memory, state = model.start(batch.source)
        values, _ = model.log_probs(batch.inputs, batch.targets.ids, memory, state)
        counted = batch.targets.mask.cpu().numpy()
        places = starts[indices][:, None] + np.arange(counted.shape[1])
        found[places[counted]] = values.cpu().double().numpy()[counted]
    return found


def line_sums(values: Values, lines: Encoded) -> Values:
    """The sum over each line and its `</s>`: (tokens + lines,) -> (lines,)."""
    starts = lines.offsets[:-1] + np.arange(len(lines))
    sums: Values = np.add.reduceat(values, starts) if len(lines) else values
    return sums


@dataclass(frozen=True)
class _Piece:
    """One call of the model: ids (B, T), where each target stands in the text, and whether it counts."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    places: NDArray[np.int64]
    counted: NDArray[np.bool_]
    continues: bool

    def to(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets as tensors."""
        return torch.from_numpy(self.inputs).to(device), torch.from_numpy(self.targets).to(device)


@dataclass
class _Carried:
    """The state behind the last piece."""

    value: State = None


@contextlib.contextmanager
def _threads_for(context: Context) -> Iterator[None]:
    """One thread where there is one row: several would wait for each other at every token."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if context == "whole" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _steps(
    lines: Encoded, context: Context, budget: int, share: tuple[int, int], *, in_order: bool = False
) -> Iterator[tuple[_Piece, _Carried]]:
    """This process's pieces, with a place for the state that goes from one to the next."""
    rank, world = share
    if context == "whole":  # the state goes through the whole text: there is nothing to share out
        rank, world = (0, 1) if rank == 0 else (1, 1)
    state = _Carried()
    if rank >= world:
        return
    with _threads_for(context):
        for number, piece in enumerate(_pieces(lines, stream_of(lines), context, budget, in_order=in_order)):
            if number % world == rank:
                yield piece, state


def _pieces(
    lines: Encoded, stream: NDArray[np.int32], context: Context, budget: int, *, in_order: bool
) -> Iterator[_Piece]:
    match context:
        case "lines":
            each = [np.array([i]) for i in range(len(lines))]
            yield from _line_pieces(lines, each if in_order else length_batches(lines.lengths, budget=budget))
        case "whole":
            for begin in range(0, len(stream), budget):
                starts = np.array([begin])
                yield _piece(stream, starts, min(budget, len(stream) - begin), 0, continues=begin > 0)
        case Blocks(size, overlap):
            if not 0 <= overlap < size:
                raise ConfigError(f"an overlap of {overlap} leaves nothing of blocks of {size}", "choose a smaller one")
            yield from _block_pieces(stream, size, overlap, budget)


def _line_pieces(lines: Encoded, batches: Sequence[NDArray[np.int64]]) -> Iterator[_Piece]:
    starts = lines.offsets[:-1] + np.arange(len(lines))
    for indices in batches:
        batch = line_batch(lines, lines, indices)
        assert batch.inputs is not None  # lines always have them
        counted = batch.targets.mask.numpy()
        places = starts[indices][:, None] + np.arange(counted.shape[1])
        yield _Piece(batch.inputs.numpy(), batch.targets.ids.numpy(), places, counted, False)


def _block_pieces(stream: NDArray[np.int32], size: int, overlap: int, budget: int) -> Iterator[_Piece]:
    """Whole blocks, several side by side, then what is left at the end."""
    stride = size - overlap
    whole = max(0, (len(stream) - size) // stride + 1) if len(stream) >= size else 0
    rows = max(1, budget // size)
    for first in range(0, whole, rows):
        starts = stride * np.arange(first, min(first + rows, whole))
        yield _piece(stream, starts, size, overlap, continues=False)
    done = (whole - 1) * stride + size if whole else 0
    if done < len(stream):
        begin = whole * stride
        yield _piece(stream, np.array([begin]), len(stream) - begin, overlap, continues=False)


def _piece(stream: NDArray[np.int32], starts: NDArray[np.int64], size: int, overlap: int, *, continues: bool) -> _Piece:
    places = starts[:, None] + np.arange(size)  # (B, T)
    inputs = stream[np.maximum(places - 1, 0)].astype(np.int64)
    inputs[places == 0] = BOS
    counted = (np.arange(size) >= overlap) | (starts[:, None] == 0)
    return _Piece(inputs, stream[places].astype(np.int64), places, counted, continues)
