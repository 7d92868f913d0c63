"""Dropout from one random byte an element, which costs little on a CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.kernels.arithmetic import current_arithmetic

__all__ = ["dropout"]

INT64_MINIMUM = -(2**63)


class ByteDropout(torch.autograd.Function):
    """Elements whose random byte is below `threshold` are zeroed; the mask is kept as bytes for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: int) -> Tensor:
        count = x.numel()
        # Without an explicit lower bound `random_` leaves the sign bit clear, which would bias one byte in eight.
        noise = torch.empty((count + 7) // 8, dtype=torch.int64).random_(INT64_MINIMUM, None).view(torch.uint8)
        # Comparing bytes into bytes and widening them is vectorised; operations that return a bool tensor are not.
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

    On a CPU, where the arithmetic has `byte_dropout`, the rate is rounded to a multiple of 1/256, and the scale is that
    of the rounded rate, so that the expectation is exactly `x`. Otherwise torch's dropout is used.
    """
    if rate == 0:
        return x
    # torch.compile cannot follow integers that are viewed as bytes.
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not current_arithmetic().byte_dropout:
        return F.dropout(x, rate)
    dropped: Tensor = ByteDropout.apply(x, min(255, max(1, round(rate * 256))))  # type: ignore[no-untyped-call]
    return dropped
