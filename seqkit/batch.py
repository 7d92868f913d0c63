"""The two shapes in which ids travel: `Padded` for one side, `Batch` for one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Batch", "Padded", "pad"]


class Padded(NamedTuple):
    """Sequences of unequal length, padded on the right."""

    ids: Tensor  # (B, S) int64, right-padded with 0
    mask: Tensor  # (B, S) bool, True = a real token

    def to(self, device: torch.device | str) -> Padded:
        """The same sequences on another device."""
        return Padded(self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))

    def rows(self, rows: Tensor) -> Padded:
        """The rows (M,) that are named, in that order."""
        return Padded(self.ids[rows], self.mask[rows])


@dataclass(frozen=True)
class Batch:
    """What one training step reads; shifting, `</s>` and padding were done when it was made."""

    source: Padded | None  # None: a language model
    inputs: Tensor | None  # (B, T)  <s> y1 ... y(T-1); None: sequence labelling
    targets: Padded  # (B, T)  y1 ... y(T-1) </s>; mask = positions that count
    continues: bool = False  # row b goes on where row b of the previous batch ended

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        source = None if self.source is None else self.source.to(device)
        inputs = None if self.inputs is None else self.inputs.to(device, non_blocking=True)
        return Batch(source, inputs, self.targets.to(device), self.continues)

    def rows(self, rows: Tensor) -> Batch:
        """The rows (M,) that are named, in that order."""
        source = None if self.source is None else self.source.rows(rows)
        inputs = None if self.inputs is None else self.inputs[rows]
        return Batch(source, inputs, self.targets.rows(rows), self.continues)

    def widened(self, multiple: int) -> Batch:
        """The same batch with padding up to a multiple of columns; one without a source, whose state may go on, is not.

        Behind padded columns a state is worth nothing.
        """
        if self.source is None:
            return self
        inputs = None if self.inputs is None else _widened(self.inputs, multiple)
        return Batch(_both(self.source, multiple), inputs, _both(self.targets, multiple), self.continues)


def _both(padded: Padded, multiple: int) -> Padded:
    return Padded(_widened(padded.ids, multiple), _widened(padded.mask, multiple))


def _widened(x: Tensor, multiple: int) -> Tensor:
    return F.pad(x, (0, -x.shape[1] % multiple))


def pad(sequences: Sequence[Sequence[int]]) -> Padded:
    """Right-pad id sequences to the longest, with a mask made from their lengths (never from an id's value)."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    width = int(lengths.max()) if len(sequences) else 0
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
    return Padded(ids, torch.arange(width) < lengths[:, None])
