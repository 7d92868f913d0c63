"""Dropout that costs little on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.kernels.arithmetic import current

__all__ = ["dropout"]

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


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero a share `rate` of the elements and scale up the others (Srivastava et al., 2014); always active.

    On a CPU, where the arithmetic has `byte_dropout`, the rate is rounded to a multiple of 1/256, and the scale fits
    the rounded rate, so that the expectation is exactly `x`. Otherwise it is torch's own.
    """
    if rate == 0:
        return x
    # The compiler loses track of bytes seen as integers.
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not current().byte_dropout:
        return F.dropout(x, rate)
    kept: Tensor = ByteDropout.apply(x, min(255, max(1, round(rate * 256))))  # type: ignore[no-untyped-call]
    return kept
