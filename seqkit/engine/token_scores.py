"""The log-probability of every token of a text, whatever the batches; a context says what is scored together.

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
from typing import Literal, NamedTuple, cast

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
    "describe_context",
    "dynamic_log_probs",
    "line_sums",
    "pair_log_probs",
    "token_features",
    "token_log_probs",
    "token_stream",
]

LogProbArray = NDArray[np.float64]
BUDGET = 4096  # tokens scored at a time


class Blocks(NamedTuple):
    """Blocks of `size` tokens, the first `overlap` of each (but the first block) read and not counted."""

    size: int
    overlap: int


Context = Literal["lines", "whole"] | Blocks


def describe_context(context: Context) -> str:
    """A context in words, as shown beside a figure."""
    match context:
        case "lines":
            return "each line alone"
        case "whole":
            return "the whole text in one row"
        case Blocks(size, overlap):
            return f"blocks of {size} tokens, {overlap} of them read and not counted"


def token_stream(lines: Encoded) -> NDArray[np.int32]:
    """All lines as one sequence of tokens, `</s>` after each: (tokens + lines,)."""
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
    batch_done: Callable[[], object] | None = None,
) -> LogProbArray:
    """The log-probability of each token of `token_stream(lines)`, in nats: (tokens + lines,), whatever the budget.

    `share` (rank, world) scores this process's part of the batches only and leaves the rest at zero. `batch_done` is
    called after each batch and may raise to leave the rest. Raises ConfigError for an overlap as large as its blocks.
    """
    log_probs = np.zeros(len(lines.ids) + len(lines), dtype=np.float64)
    for batch, state in _batches_with_state(lines, context, budget, share):
        inputs, targets = batch.to(device)
        memory, first = model.start(None)
        values, after = model.log_probs(inputs, targets, memory, state.value if batch.continues else first)
        state.value = after if context == "whole" else None
        log_probs[batch.positions[batch.counted]] = values.cpu().double().numpy()[batch.counted]
        if batch_done is not None:
            batch_done()
    return log_probs


@torch.no_grad()
def token_features(
    model: Trainable, lines: Encoded, context: Context, *, device: torch.device, budget: int = BUDGET
) -> NDArray[np.float32]:
    """The input of the output layer where each token of `token_stream(lines)` is predicted: (tokens + lines, D)."""
    rows: NDArray[np.float32] = np.zeros((len(lines.ids) + len(lines), model.output.weight.shape[1]), dtype=np.float32)
    for batch, state in _batches_with_state(lines, context, budget, (0, 1)):
        inputs, _ = batch.to(device)
        memory, first = model.start(None)
        features = model.features(inputs, memory, state.value if batch.continues else first)
        state.value = features.state if context == "whole" else None
        rows[batch.positions[batch.counted]] = features.hidden.float().cpu().numpy()[batch.counted]
    return rows


def dynamic_log_probs(
    model: nn.Module, lines: Encoded, context: Context, *, rate: float, segment: int, device: torch.device
) -> LogProbArray:
    """The log-probability of each token by dynamic evaluation: the model learns from the text that it has just scored.

    After each segment of `segment` tokens, each line or each block, one step of plain gradient descent at `rate` on its
    mean loss (Krause et al., 2018, without their scaling). The model itself is not changed: a copy learns.
    """
    learner = copy.deepcopy(model).eval()  # no dropout; gradients do not depend on the mode
    scorable = cast(Scorable, learner)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    if not parameters:
        raise ConfigError(
            "this model was counted, not trained: it cannot learn while it is scored", "leave out --dynamic"
        )
    budget = context.size if isinstance(context, Blocks) else segment
    log_probs = np.zeros(len(lines.ids) + len(lines), dtype=np.float64)
    for batch, state in _batches_with_state(lines, context, budget, (0, 1), in_order=True):
        inputs, targets = batch.to(device)
        memory, first = scorable.start(None)
        before = map_state(torch.Tensor.detach, state.value) if batch.continues else first
        values, after = scorable.log_probs(inputs, targets, memory, before)
        state.value = after if context == "whole" else None
        counted = torch.from_numpy(batch.counted).to(device)
        loss = -values[counted].mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.add_(gradient, alpha=-rate)
        log_probs[batch.positions[batch.counted]] = values.detach().cpu().double().numpy()[batch.counted]
    return log_probs


@torch.no_grad()
def pair_log_probs(
    model: Scorable, source: Encoded, target: Encoded, *, device: torch.device, budget: int = BUDGET
) -> LogProbArray:
    """The log-probability of each token of the targets and their `</s>`, given the sources, in the order of
    `token_stream(target)`."""
    starts = target.offsets[:-1] + np.arange(len(target))
    log_probs = np.zeros(len(target.ids) + len(target), dtype=np.float64)
    for indices in length_batches(np.maximum(source.lengths, target.lengths) + 1, budget=budget):
        batch = translation_batch(source, target, indices).to(device)
        assert batch.inputs is not None  # translation batches always have them
        memory, state = model.start(batch.source)
        values, _ = model.log_probs(batch.inputs, batch.targets.ids, memory, state)
        counted = batch.targets.mask.cpu().numpy()
        positions = starts[indices][:, None] + np.arange(counted.shape[1])
        log_probs[positions[counted]] = values.cpu().double().numpy()[counted]
    return log_probs


def line_sums(values: LogProbArray, lines: Encoded) -> LogProbArray:
    """The sum over each line and its `</s>`: (tokens + lines,) -> (lines,)."""
    starts = lines.offsets[:-1] + np.arange(len(lines))
    sums: LogProbArray = np.add.reduceat(values, starts) if len(lines) else values
    return sums


@dataclass(frozen=True)
class _Batch:
    """One call of the model: ids (B, T), the position of each target in the text, and whether it counts."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    positions: NDArray[np.int64]
    counted: NDArray[np.bool_]
    continues: bool  # from the state behind the batch before

    def to(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets as tensors."""
        return torch.from_numpy(self.inputs).to(device), torch.from_numpy(self.targets).to(device)


@dataclass
class _CarriedState:
    """The state behind the last batch."""

    value: State = None


@contextlib.contextmanager
def _threads_for(context: Context) -> Iterator[None]:
    """Within the body torch uses one thread where there is one row: several would wait for each other at each token."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if context == "whole" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches_with_state(
    lines: Encoded, context: Context, budget: int, share: tuple[int, int], *, in_order: bool = False
) -> Iterator[tuple[_Batch, _CarriedState]]:
    """This process's batches, each with the state that the caller carries from one to the next."""
    rank, world = share
    if context == "whole":  # the state is carried through the whole text, by one process
        rank, world = (0, 1) if rank == 0 else (1, 1)
    state = _CarriedState()
    if rank >= world:
        return
    with _threads_for(context):
        for number, batch in enumerate(_batches(lines, token_stream(lines), context, budget, in_order=in_order)):
            if number % world == rank:
                yield batch, state


def _batches(
    lines: Encoded, stream: NDArray[np.int32], context: Context, budget: int, *, in_order: bool
) -> Iterator[_Batch]:
    match context:
        case "lines":
            single_lines = [np.array([i]) for i in range(len(lines))]
            yield from _line_batches(lines, single_lines if in_order else length_batches(lines.lengths, budget=budget))
        case "whole":
            for begin in range(0, len(stream), budget):
                starts = np.array([begin])
                yield _stream_batch(stream, starts, min(budget, len(stream) - begin), 0, continues=begin > 0)
        case Blocks(size, overlap):
            if not 0 <= overlap < size:
                raise ConfigError(f"an overlap of {overlap} leaves nothing of blocks of {size}", "choose a smaller one")
            yield from _block_batches(stream, size, overlap, budget)


def _line_batches(lines: Encoded, batches: Sequence[NDArray[np.int64]]) -> Iterator[_Batch]:
    starts = lines.offsets[:-1] + np.arange(len(lines))
    for indices in batches:
        batch = line_batch(lines, lines, indices)
        assert batch.inputs is not None  # lines always have them
        counted = batch.targets.mask.numpy()
        positions = starts[indices][:, None] + np.arange(counted.shape[1])
        yield _Batch(batch.inputs.numpy(), batch.targets.ids.numpy(), positions, counted, False)


def _block_batches(stream: NDArray[np.int32], size: int, overlap: int, budget: int) -> Iterator[_Batch]:
    """Complete blocks, several in a batch, then the rest of the text."""
    stride = size - overlap
    blocks = max(0, (len(stream) - size) // stride + 1) if len(stream) >= size else 0
    rows = max(1, budget // size)
    for first in range(0, blocks, rows):
        starts = stride * np.arange(first, min(first + rows, blocks))
        yield _stream_batch(stream, starts, size, overlap, continues=False)
    end = (blocks - 1) * stride + size if blocks else 0
    if end < len(stream):
        begin = blocks * stride
        yield _stream_batch(stream, np.array([begin]), len(stream) - begin, overlap, continues=False)


def _stream_batch(
    stream: NDArray[np.int32], starts: NDArray[np.int64], size: int, overlap: int, *, continues: bool
) -> _Batch:
    positions = starts[:, None] + np.arange(size)  # (B, T)
    inputs = stream[np.maximum(positions - 1, 0)].astype(np.int64)
    inputs[positions == 0] = BOS
    counted = (np.arange(size) >= overlap) | (starts[:, None] == 0)
    return _Batch(inputs, stream[positions].astype(np.int64), positions, counted, continues)
