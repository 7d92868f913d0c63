"""Dropout that costs little on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Dropout", "LockedDropout", "dropout"]

LOWEST = -(2**63)


class ByteDropout(torch.autograd.Function):
    """Dropout from one random byte an element, kept as bytes until the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        count = x.numel()
        # Without an explicit lower bound `random_` leaves the sign bit clear, and one byte in eight would be biased.
        noise = torch.empty((count + 7) // 8, dtype=torch.int64).random_(LOWEST, None).view(torch.uint8)
        # Comparing bytes into bytes and widening them is vectorised; anything that makes a bool tensor is not.
        keep = torch.ge(noise, threshold, out=noise)[:count].view(x.shape)
        ctx.save_for_backward(keep)
        ctx.scale = 256 / (256 - threshold)
        return keep.to(x.dtype).mul_(x).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return keep.to(gradient.dtype).mul_(gradient).mul_(ctx.scale), None


def dropout(x: Tensor, rate: float, *, cheap: bool = True) -> Tensor:
    """Zero a share `rate` of the elements and scale up the others (Srivastava et al., 2014); always active.

    Where it is `cheap`, which concerns CPUs only, the rate is rounded to a multiple of 1/256, and the scale fits the
    rounded rate, so that the expectation is exactly `x`. Otherwise it is torch's own.
    """
    if rate == 0:
        return x
    # The compiler loses track of bytes seen as integers.
    if not cheap or x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    kept: Tensor = ByteDropout.apply(x, min(255, max(1, round(rate * 256))))  # type: ignore[no-untyped-call]
    return kept


class Dropout(nn.Module):
    """`dropout` while training, the identity otherwise."""

    cheap = True  # whether it may differ from torch's own for the sake of speed

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, cheap=self.cheap) if self.training else x

    def extra_repr(self) -> str:
        return f"{self.rate}"


class LockedDropout(Dropout):
    """Dropout with one mask for all steps of a call (Gal and Ghahramani, 2016; Merity et al., 2018): (N, T, D)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        return x * dropout(torch.ones_like(x[:, :1]), self.rate, cheap=self.cheap)  # (N, 1, D)
