"""Dropout modules: a mask for every element, or one mask for all steps of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqkit.kernels.byte_dropout import dropout

__all__ = ["Dropout", "LockedDropout"]


class Dropout(nn.Module):
    """Zeroes a share `rate` of the elements while training and scales up the others (Srivastava et al., 2014)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape, with elements dropped while training."""
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        return f"{self.rate}"


class LockedDropout(Dropout):
    """Dropout with one mask for all steps of a call (Gal and Ghahramani, 2016; Merity et al., 2018): (N, T, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (N, T, D), with channels of each row dropped at all its steps while training."""
        if not self.training or self.rate == 0:
            return x
        return x * dropout(torch.ones_like(x[:, :1]), self.rate)  # (N, 1, D)
