"""A text as one stream of tokens, cut into batches of windows for a language model.

    sequential, 2 rows, windows of 3         random, 2 rows, windows of 3
    a b c | d e f | g h                      d e f | j k l
    i j k | l m n | o p                      m n o | a b c | ...
    row b continues its previous window      random order

Each epoch begins at a random offset in the text, so that windows do not always begin at the same tokens. The inputs of
a window begin with the token before it, for the first token of the text with `<s>`:

    inputs    <s> a b | c d e | ...
    targets    a  b c | d e f | ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from seqkit.batch import Batch, Padded
from seqkit.data.loading import ExampleGroup, prefetched
from seqkit.text.vocabulary import BOS

__all__ = ["Partition", "WindowStream", "usable_rows"]

TokenIds = NDArray[np.int32]
Starts = NDArray[np.int64]
Partition = Literal["sequential", "random"]


class _Window(NamedTuple):
    """One planned batch: a window of each row."""

    starts: Starts  # (rows,) positions in the text at which the windows begin
    size: int  # tokens in each window
    continues: bool  # row b continues row b of the previous batch


def usable_rows(tokens: int, *, rows: int, window: int) -> int:
    """The number of rows, at most `rows` and at least one, that a text can fill with a whole window each."""
    return min(rows, max(1, tokens // window))


class WindowStream:
    """The groups of any epoch from any position on: a pure function of seed, epoch, tokens and sizes.

    Batches are planned for all processes together; process r of w builds rows r, r + w, r + 2w, ...
    """

    def __init__(
        self,
        tokens: TokenIds,
        *,
        rows: int,
        window: int,
        partition: Partition,
        carries: bool,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
    ) -> None:
        """tokens (N,); `carries`: whether the model's state is carried from window to window, which only the sequential
        partition allows; `accumulate`: batches in a group; `prefetch`: groups built in advance, 0 for none."""
        self.tokens = tokens
        self.rows = usable_rows(len(tokens), rows=rows, window=window)
        self.window = window
        self.partition = partition
        self.carries = self.rows if carries and partition == "sequential" else 0
        self._accumulate = accumulate
        self._seed = seed
        self._rank = rank
        self._world = world
        self._prefetch = prefetch
        # The offset of an epoch is at most as large as it can be without changing the number of batches.
        self._largest_offset = window - 1 if len(tokens) >= 2 * self.rows * window else 0
        self._used = len(tokens) - self._largest_offset

    def count(self, epoch: int) -> int:
        """The number of groups, which is the same in every epoch."""
        if self.partition == "sequential":
            batches = -(-(self._used // self.rows) // self.window)
        else:
            batches = -(-max(1, self._used // self.window) // self.rows)
        return -(-batches // self._accumulate)

    def largest(self, epoch: int) -> ExampleGroup:
        """The first batch, as a group by itself: no other one is larger."""
        return self._group(self._plan(epoch)[:1])

    def groups(self, epoch: int, start: int = 0) -> Iterator[ExampleGroup]:
        """The epoch's groups from number `start` on; earlier ones are not built."""
        windows = self._plan(epoch)
        size = self._accumulate
        planned = [windows[first : first + size] for first in range(0, len(windows), size)]
        groups = (self._group(group) for group in planned[start:])
        return prefetched(groups, self._prefetch) if self._prefetch else groups

    def _plan(self, epoch: int) -> list[_Window]:
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=self._seed, spawn_key=(epoch,))))
        offset = int(random.integers(0, self._largest_offset + 1))
        if self.partition == "sequential":
            length = self._used // self.rows
            starts = offset + length * np.arange(self.rows)
            return [
                _Window(starts + position, min(self.window, length - position), self.carries > 0 and position > 0)
                for position in range(0, length, self.window)
            ]
        size = min(self.window, self._used)
        starts = offset + size * random.permutation(self._used // size)
        return [_Window(starts[i : i + self.rows], size, False) for i in range(0, len(starts), self.rows)]

    def _group(self, windows: list[_Window]) -> ExampleGroup:
        tokens = sum(len(window.starts) * window.size for window in windows)
        rows = sum(len(window.starts) for window in windows)
        return ExampleGroup([self._batch(window) for window in windows], tokens, rows, tokens)

    def _batch(self, window: _Window) -> Batch:
        """This process's rows; a process without any gets one row with a mask that is False throughout."""
        starts = window.starts[self._rank :: self._world]
        counts = len(starts) > 0
        positions = (starts if counts else window.starts[:1])[:, None] + np.arange(window.size)  # (rows, T)
        inputs = self.tokens[np.maximum(positions - 1, 0)].astype(np.int64)
        inputs[positions == 0] = BOS
        targets = torch.from_numpy(self.tokens[positions].astype(np.int64))
        mask = torch.full(targets.shape, counts)
        return Batch(None, torch.from_numpy(inputs), Padded(targets, mask), window.continues)
