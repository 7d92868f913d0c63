"""Index lists become batches: padded tensors, groups of batches for one optimizer step, made ahead in a thread.

What a step reads is a function of (seed, epoch, examples, budget) and its number, so a position in the data is two
integers. Batches are planned for all processes together; each builds its own slice of every one:

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
from seqkit.data.batching import slice_of, token_batches
from seqkit.data.datasets import Encoded
from seqkit.text.vocabulary import BOS, EOS, PAD

__all__ = [
    "ExampleGroup",
    "ExampleStream",
    "Examples",
    "Make",
    "ahead",
    "label_batch",
    "line_batch",
    "translation_batch",
]

Indices = NDArray[np.int64]
Examples = Callable[[int], tuple[Encoded, Encoded]]  # epoch -> source and target; twice the same for a text alone
Make = Callable[[Encoded, Encoded, Indices], Batch]
Item = TypeVar("Item")


def translation_batch(source: Encoded, target: Encoded, indices: Indices) -> Batch:
    """The pairs with these indices: `</s>` ends both sides, `<s>` begins what the decoder reads.

    source (B, S) x1 .. xS-1 </s>, inputs (B, T) <s> y1 .. yT-1, targets (B, T) y1 .. yT-1 </s>. Without indices, as in
    a process whose slice is empty, there is one row that counts nowhere: its target mask is False throughout.
    """
    source = source.take(indices) if len(indices) else Encoded.from_lists([[]])
    return replace(line_batch(source, target, indices), source=_ended(source))


def line_batch(_: Encoded, lines: Encoded, indices: Indices) -> Batch:
    """The lines with these indices, each alone: inputs (B, T) <s> y1 .. yT-1, targets y1 .. yT-1 </s>.

    Without indices there is one row that counts nowhere.
    """
    counts = len(indices) > 0
    lines = lines.take(indices) if counts else Encoded.from_lists([[]])
    inputs = _rows(lines, first=1)
    inputs[:, 0] = BOS
    targets = _ended(lines)
    return Batch(None, torch.from_numpy(inputs), targets._replace(mask=targets.mask & counts))


def label_batch(tokens: Encoded, labels: Encoded, indices: Indices) -> Batch:
    """The sentences with these indices: source (B, S) x1 .. xS-1 </s>, targets (B, S) y1 .. yS-1, none at `</s>`.

    Without indices there is one row that counts nowhere.
    """
    nothing = Encoded.from_lists([[]])
    tokens, labels = (side.take(indices) if len(indices) else nothing for side in (tokens, labels))
    targets = _rows(labels, first=0)
    mask = np.arange(targets.shape[1]) < labels.lengths[:, None]
    return Batch(_ended(tokens), None, Padded(torch.from_numpy(targets), torch.from_numpy(mask)))


def _ended(sequences: Encoded) -> Padded:
    """The sequences, `</s>` after each: (B, longest + 1)."""
    ids = _rows(sequences, first=0)
    ids[np.arange(len(sequences)), sequences.lengths] = EOS
    mask = np.arange(ids.shape[1]) <= sequences.lengths[:, None]
    return Padded(torch.from_numpy(ids), torch.from_numpy(mask))


def _rows(sequences: Encoded, *, first: int) -> NDArray[np.int64]:
    """The sequences as rows that begin in column `first`, the rest padding: (B, longest + 1)."""
    rows = np.full((len(sequences), int(sequences.lengths.max()) + 1), PAD, dtype=np.int64)
    columns = np.arange(rows.shape[1]) - first
    rows[(columns >= 0) & (columns < sequences.lengths[:, None])] = sequences.ids
    return rows


class ExampleGroup(NamedTuple):
    """What one optimizer step reads; the counts are of all processes together, known from the plan."""

    batches: list[Batch]  # this process's slices, at most `accumulate` of them
    tokens: int  # target tokens that count, `</s>` included
    sentences: int
    padded: int  # target positions of the planned batches, padding included
    # Which ones each batch holds, over all processes, counted from 0; none for windows of a text.
    examples: Sequence[Sequence[int]] = ()


class _Plan(NamedTuple):
    epoch: int
    source: Encoded
    target: Encoded
    groups: list[list[Indices]]


class ExampleStream:
    """The groups of any epoch, from any position on, the same however they are built ahead or divided."""

    carries = 0  # every batch begins anew

    def __init__(
        self,
        make: Make = translation_batch,
        *,
        examples: Examples,
        budget: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
        ends: int = 1,
    ) -> None:
        """`make` turns indices into a batch; `budget` is target tokens per planned batch (see `batching`); `prefetch`
        the groups built ahead, 0 for none; `ends` the positions that count in each target besides its tokens.

        `examples` is asked once an epoch: it gives the same pair of sides each time, or one encoded anew.
        """
        self._make = make
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
        """How many groups the epoch has."""
        return len(self._plan(epoch).groups)

    def indices(self, epoch: int) -> list[list[Indices]]:
        """Which pairs each group's batches hold, over all processes."""
        return self._plan(epoch).groups

    def largest(self, epoch: int) -> ExampleGroup:
        """The batch with the most padded tokens on both sides, of several the widest, as a group of its own."""
        plan = self._plan(epoch)

        def size(batch: Indices) -> tuple[int, int]:
            width = int(plan.source.lengths[batch].max()) + int(plan.target.lengths[batch].max()) + 2
            return len(batch) * width, width

        return self._group(plan, [max((batch for group in plan.groups for batch in group), key=size)])

    def groups(self, epoch: int, start: int = 0) -> Iterator[ExampleGroup]:
        """The epoch's groups, without the first `start`, for which nothing is built."""
        plan = self._plan(epoch)
        made = (self._group(plan, batches) for batches in plan.groups[start:])
        return ahead(made, self._prefetch) if self._prefetch else made

    def _plan(self, epoch: int) -> _Plan:
        if self._current is None or self._current.epoch != epoch:
            source, target = self._examples(epoch)
            batches = token_batches(source.lengths, target.lengths, budget=self._budget, seed=self._seed, epoch=epoch)
            size = self._accumulate
            groups = [batches[first : first + size] for first in range(0, len(batches), size)]
            self._current = _Plan(epoch, source, target, groups)
        return self._current

    def _group(self, plan: _Plan, batches: list[Indices]) -> ExampleGroup:
        mine = [slice_of(batch, self._rank, self._world) for batch in batches]
        lengths = [plan.target.lengths[batch] for batch in batches]
        return ExampleGroup(
            batches=[self._make(plan.source, plan.target, indices) for indices in mine],
            tokens=sum(int(own.sum()) + self._ends * len(own) for own in lengths),
            sentences=sum(len(batch) for batch in batches),
            padded=sum(len(own) * (int(own.max()) + 1) for own in lengths),
            examples=[batch.tolist() for batch in batches],
        )


class _Ended(NamedTuple):
    """The last thing the thread says: that there is no more, or why."""

    error: BaseException | None


def ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, made by a thread that is at most `depth` ahead; its error is raised where it would have been."""
    room = threading.Semaphore(depth)
    made: SimpleQueue[Item | _Ended] = SimpleQueue()
    abandoned = threading.Event()

    def work() -> None:
        error = None
        try:
            while room.acquire() and not abandoned.is_set():
                made.put(next(items))
        except StopIteration:
            pass
        except BaseException as raised:  # whatever it is, the consumer must not wait for ever
            error = raised
        made.put(_Ended(error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _Ended):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        abandoned.set()
        room.release()  # it may be waiting for room
        thread.join()
