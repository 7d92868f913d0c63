"""A text as one stream of tokens, cut into the batches of a language model.

    sequential, 2 rows, windows of 3         random, 2 rows, windows of 3
    a b c | d e f | g h                      d e f | j k l
    i j k | l m n | o p                      m n o | a b c | ...
    row b goes on where it stopped           no order kept

Each epoch begins a few tokens later or earlier in the text, by chance, so that windows do not always begin at the same
tokens. What a token is predicted from begins with the token before it, the first of all with `<s>`:

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
from seqkit.data.loading import ExampleGroup, ahead
from seqkit.text.vocabulary import BOS

__all__ = ["Partition", "WindowStream", "fitting_rows"]

Tokens = NDArray[np.int32]
Starts = NDArray[np.int64]
Partition = Literal["sequential", "random"]


class _Window(NamedTuple):
    """One planned batch: where each row's window begins in the text, and how long all of them are."""

    starts: Starts  # (rows,)
    size: int
    continues: bool


def fitting_rows(tokens: int, *, rows: int, window: int) -> int:
    """How many of `rows` a text can fill with a whole window each; at least one."""
    return min(rows, max(1, tokens // window))


class WindowStream:
    """The groups of any epoch, from any position on: a pure function of seed, epoch, tokens and sizes.

    Batches are planned for all processes together; process r of w takes rows r, r + w, r + 2w, ...
    """

    def __init__(
        self,
        tokens: Tokens,
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
        """tokens (N,); `carries`: whether the model's state goes from window to window (sequential partition only)."""
        self.tokens = tokens
        self.rows = fitting_rows(len(tokens), rows=rows, window=window)
        self.window = window
        self.partition = partition
        self.carries = self.rows if carries and partition == "sequential" else 0
        self._accumulate = accumulate
        self._seed = seed
        self._rank = rank
        self._world = world
        self._prefetch = prefetch
        # The beginning wanders over as much as can be spared without changing how many batches there are.
        self._spare = window - 1 if len(tokens) >= 2 * self.rows * window else 0
        self._used = len(tokens) - self._spare

    def count(self, epoch: int) -> int:
        """How many groups an epoch has: the same in every one."""
        if self.partition == "sequential":
            batches = -(-(self._used // self.rows) // self.window)
        else:
            batches = -(-max(1, self._used // self.window) // self.rows)
        return -(-batches // self._accumulate)

    def largest(self, epoch: int) -> ExampleGroup:
        """The first batch, as a group of its own: none is larger."""
        return self._group(self._plan(epoch)[:1])

    def groups(self, epoch: int, start: int = 0) -> Iterator[ExampleGroup]:
        """The epoch's groups, without the first `start`, for which nothing is built."""
        windows = self._plan(epoch)
        size = self._accumulate
        planned = [windows[first : first + size] for first in range(0, len(windows), size)]
        made = (self._group(group) for group in planned[start:])
        return ahead(made, self._prefetch) if self._prefetch else made

    def _plan(self, epoch: int) -> list[_Window]:
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=self._seed, spawn_key=(epoch,))))
        offset = int(random.integers(0, self._spare + 1))
        if self.partition == "sequential":
            length = self._used // self.rows
            starts = offset + length * np.arange(self.rows)
            return [
                _Window(starts + place, min(self.window, length - place), self.carries > 0 and place > 0)
                for place in range(0, length, self.window)
            ]
        size = min(self.window, self._used)
        starts = offset + size * random.permutation(self._used // size)
        return [_Window(starts[i : i + self.rows], size, False) for i in range(0, len(starts), self.rows)]

    def _group(self, windows: list[_Window]) -> ExampleGroup:
        tokens = sum(len(window.starts) * window.size for window in windows)
        rows = sum(len(window.starts) for window in windows)
        return ExampleGroup([self._batch(window) for window in windows], tokens, rows, tokens)

    def _batch(self, window: _Window) -> Batch:
        """This process's rows; a process without any gets one that counts nowhere."""
        starts = window.starts[self._rank :: self._world]
        counts = len(starts) > 0
        places = (starts if counts else window.starts[:1])[:, None] + np.arange(window.size)  # (rows, T)
        inputs = self.tokens[np.maximum(places - 1, 0)].astype(np.int64)
        inputs[places == 0] = BOS
        targets = torch.from_numpy(self.tokens[places].astype(np.int64))
        mask = torch.full(targets.shape, counts)
        return Batch(None, torch.from_numpy(inputs), Padded(targets, mask), window.continues)
