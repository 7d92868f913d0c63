"""Padded batches of ids: `Padded` for one side, `Batch` for one training step."""

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

    ids: Tensor  # (B, S) int64, padded with 0
    mask: Tensor  # (B, S) bool, True = a real token

    def to(self, device: torch.device | str) -> Padded:
        """The same sequences on another device."""
        return Padded(self.ids.to(device, non_blocking=True), self.mask.to(device, non_blocking=True))

    def rows(self, rows: Tensor) -> Padded:
        """The rows with the indices `rows` (M,), in that order."""
        return Padded(self.ids[rows], self.mask[rows])


@dataclass(frozen=True)
class Batch:
    """The data of one training step; targets are shifted, ended by `</s>` and padded already."""

    source: Padded | None  # None: a language model
    inputs: Tensor | None  # (B, T)  <s> y1 ... y(T-1); None: sequence labelling
    targets: Padded  # (B, T)  y1 ... y(T-1) </s>; mask = positions that count in the loss
    continues: bool = False  # row b continues the sequence of row b of the previous batch

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        source = None if self.source is None else self.source.to(device)
        inputs = None if self.inputs is None else self.inputs.to(device, non_blocking=True)
        return Batch(source, inputs, self.targets.to(device), self.continues)

    def rows(self, rows: Tensor) -> Batch:
        """The rows with the indices `rows` (M,), in that order."""
        source = None if self.source is None else self.source.rows(rows)
        inputs = None if self.inputs is None else self.inputs[rows]
        return Batch(source, inputs, self.targets.rows(rows), self.continues)

    def padded_to_multiple(self, multiple: int) -> Batch:
        """The same batch, padded so that its numbers of columns are multiples of `multiple`.

        A batch without a source is not changed: its state may be carried to the next batch, and a state after padding
        is invalid.
        """
        if self.source is None:
            return self
        inputs = None if self.inputs is None else _pad_columns(self.inputs, multiple)
        return Batch(_pad_both(self.source, multiple), inputs, _pad_both(self.targets, multiple), self.continues)


def _pad_both(padded: Padded, multiple: int) -> Padded:
    return Padded(_pad_columns(padded.ids, multiple), _pad_columns(padded.mask, multiple))


def _pad_columns(x: Tensor, multiple: int) -> Tensor:
    return F.pad(x, (0, -x.shape[1] % multiple))


def pad(sequences: Sequence[Sequence[int]]) -> Padded:
    """Pad id sequences on the right to the longest; the mask depends on their lengths, not on the values of ids."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    width = int(lengths.max()) if len(sequences) else 0
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
    return Padded(ids, torch.arange(width) < lengths[:, None])
