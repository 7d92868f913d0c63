"""Batches of examples: padded tensors, groups of batches for one optimizer step, prefetched by a thread.

The data of a step is a function of (seed, epoch, examples, budget) and its number, so a position in the data is two
integers. Batches are planned for all processes together; each process builds its slice of every batch:

    epoch 2    group 0  [batch, batch]      group 1  [batch, batch]      group 2  [batch]     accumulate = 2
    rank 0              [ 0::2,  0::2]               [ 0::2,  0::2]               [ 0::2]     world = 2
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from seqkit.batch import Batch, Padded
from seqkit.data.batching import Indices, slice_of, token_batches
from seqkit.data.datasets import Encoded
from seqkit.text.vocabulary import BOS, EOS, PAD

__all__ = [
    "BuildBatch",
    "EpochExamples",
    "ExampleGroup",
    "ExampleStream",
    "label_batch",
    "line_batch",
    "prefetched",
    "translation_batch",
]

EpochExamples = Callable[[int], tuple[Encoded, Encoded]]  # epoch -> source and target; twice the same for plain text
BuildBatch = Callable[[Encoded, Encoded, Indices], Batch]
Item = TypeVar("Item")


def translation_batch(source: Encoded, target: Encoded, indices: Indices) -> Batch:
    """The pairs with these indices: `</s>` ends both sides, `<s>` begins the inputs of the decoder.

    source (B, S) x1 .. xS-1 </s>, inputs (B, T) <s> y1 .. yT-1, targets (B, T) y1 .. yT-1 </s>. Without indices, as for
    a process whose slice is empty, there is one row whose target mask is False throughout, so that it does not count.
    """
    source = source.take(indices) if len(indices) else Encoded.from_lists([[]])
    return replace(line_batch(source, target, indices), source=_with_end(source))


def line_batch(_: Encoded, lines: Encoded, indices: Indices) -> Batch:
    """The lines with these indices as separate sequences: inputs (B, T) <s> y1 .. yT-1, targets y1 .. yT-1 </s>.

    Without indices there is one row whose target mask is False throughout.
    """
    counts = len(indices) > 0
    lines = lines.take(indices) if counts else Encoded.from_lists([[]])
    inputs = _rows(lines, first=1)
    inputs[:, 0] = BOS
    targets = _with_end(lines)
    return Batch(None, torch.from_numpy(inputs), targets._replace(mask=targets.mask & counts))


def label_batch(tokens: Encoded, labels: Encoded, indices: Indices) -> Batch:
    """The sentences with these indices: source (B, S) x1 .. xS-1 </s>, targets (B, S) y1 .. yS-1, none at `</s>`.

    Without indices there is one row whose target mask is False throughout.
    """
    empty = Encoded.from_lists([[]])
    tokens, labels = (side.take(indices) if len(indices) else empty for side in (tokens, labels))
    targets = _rows(labels, first=0)
    mask = np.arange(targets.shape[1]) < labels.lengths[:, None]
    return Batch(_with_end(tokens), None, Padded(torch.from_numpy(targets), torch.from_numpy(mask)))


def _with_end(sequences: Encoded) -> Padded:
    """The sequences with `</s>` after each: (B, longest + 1)."""
    ids = _rows(sequences, first=0)
    ids[np.arange(len(sequences)), sequences.lengths] = EOS
    mask = np.arange(ids.shape[1]) <= sequences.lengths[:, None]
    return Padded(torch.from_numpy(ids), torch.from_numpy(mask))


def _rows(sequences: Encoded, *, first: int) -> NDArray[np.int64]:
    """The sequences as padded rows that begin in column `first`: (B, longest + 1)."""
    rows = np.full((len(sequences), int(sequences.lengths.max()) + 1), PAD, dtype=np.int64)
    columns = np.arange(rows.shape[1]) - first
    rows[(columns >= 0) & (columns < sequences.lengths[:, None])] = sequences.ids
    return rows


class ExampleGroup(NamedTuple):
    """The batches of one optimizer step, with counts over all processes, which are known from the plan."""

    batches: list[Batch]  # this process's slices, at most `accumulate` of them
    tokens: int  # target tokens that count, `</s>` included
    sentences: int
    padded: int  # target positions of the planned batches, padding included
    # The indices of each batch's examples, over all processes; empty for windows of a text.
    examples: Sequence[Sequence[int]] = ()


class _Plan(NamedTuple):
    """The division of an epoch's examples into groups of batches."""

    epoch: int
    source: Encoded
    target: Encoded
    groups: list[list[Indices]]


class ExampleStream:
    """The groups of any epoch from any position on; prefetching and the number of processes do not change them."""

    carries = 0  # rows whose state is carried to the next batch

    def __init__(
        self,
        build: BuildBatch = translation_batch,
        *,
        examples: EpochExamples,
        budget: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
        ends: int = 1,
    ) -> None:
        """`build` makes a batch of indices; `budget`: target tokens per planned batch (see `batching`); `accumulate`:
        batches in a group; `prefetch`: groups built in advance, 0 for none; `ends`: positions of each target that count
        besides its tokens.

        `examples` is called once an epoch and may return the same examples or newly encoded ones.
        """
        self._build = build
        self._examples = examples
        self._budget = budget
        self._accumulate = accumulate
        self._seed = seed
        self._rank = rank
        self._world = world
        self._prefetch = prefetch
        self._ends = ends
        self._current: _Plan | None = None

    def count(self, epoch: int) -> int:
        """The number of groups of the epoch."""
        return len(self._plan(epoch).groups)

    def indices(self, epoch: int) -> list[list[Indices]]:
        """The indices of the examples in each group's batches, over all processes."""
        return self._plan(epoch).groups

    def largest(self, epoch: int) -> ExampleGroup:
        """The batch with the most padded tokens on both sides, of several the widest, as a group by itself."""
        plan = self._plan(epoch)

        def size(batch: Indices) -> tuple[int, int]:
            width = int(plan.source.lengths[batch].max()) + int(plan.target.lengths[batch].max()) + 2
            return len(batch) * width, width

        return self._group(plan, [max((batch for group in plan.groups for batch in group), key=size)])

    def groups(self, epoch: int, start: int = 0) -> Iterator[ExampleGroup]:
        """The epoch's groups from number `start` on; earlier ones are not built."""
        plan = self._plan(epoch)
        groups = (self._group(plan, batches) for batches in plan.groups[start:])
        return prefetched(groups, self._prefetch) if self._prefetch else groups

    def _plan(self, epoch: int) -> _Plan:
        if self._current is None or self._current.epoch != epoch:
            source, target = self._examples(epoch)
            batches = token_batches(source.lengths, target.lengths, budget=self._budget, seed=self._seed, epoch=epoch)
            size = self._accumulate
            groups = [batches[first : first + size] for first in range(0, len(batches), size)]
            self._current = _Plan(epoch, source, target, groups)
        return self._current

    def _group(self, plan: _Plan, batches: list[Indices]) -> ExampleGroup:
        slices = [slice_of(batch, self._rank, self._world) for batch in batches]
        lengths = [plan.target.lengths[batch] for batch in batches]  # of each batch
        return ExampleGroup(
            batches=[self._build(plan.source, plan.target, indices) for indices in slices],
            tokens=sum(int(row.sum()) + self._ends * len(row) for row in lengths),
            sentences=sum(len(batch) for batch in batches),
            padded=sum(len(row) * (int(row.max()) + 1) for row in lengths),
            examples=[batch.tolist() for batch in batches],
        )


class _End(NamedTuple):
    """The last entry of the queue: the end of the items, or the error that the thread raised."""

    error: BaseException | None


def prefetched(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, computed by a thread at most `depth` in advance; its error is raised at its place among them."""
    capacity = threading.Semaphore(depth)
    queue: SimpleQueue[Item | _End] = SimpleQueue()
    abandoned = threading.Event()

    def work() -> None:
        error = None
        try:
            while capacity.acquire() and not abandoned.is_set():
                queue.put(next(items))
        except StopIteration:
            pass
        except BaseException as raised:  # of any kind: without an end the consumer would wait for ever
            error = raised
        queue.put(_End(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := queue.get(), _End):
            capacity.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        abandoned.set()
        capacity.release()  # the thread may be waiting for it
        thread.join()
