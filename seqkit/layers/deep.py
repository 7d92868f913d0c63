"""What training may do to a stack of layers: pass some over, or work out again in the backward pass what they kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from seqkit.layers.linear import PRODUCTS, products_in

__all__ = ["Deep"]

Result = TypeVar("Result")


class Deep(nn.Module):
    """A module with a loop over layers, which asks `skips` before each and calls it by `through`."""

    def __init__(self, *, layer_drop: float = 0.0) -> None:
        super().__init__()
        self.layer_drop = layer_drop
        self.recompute = False

    def skips(self) -> bool:
        """Whether a training step passes the next layer over (LayerDrop; Fan et al., 2020)."""
        return self.training and self.layer_drop > 0 and float(torch.rand(())) < self.layer_drop

    def through(self, call: Callable[..., Result], *inputs: Any) -> Result:
        """call(*inputs); with `recompute`, training keeps only the inputs and calls again to go back (Chen et al.,
        2016), under the same dropout."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return call(*inputs)
        products = PRODUCTS.get()  # the second call comes when the arithmetic of the first is not set any more
        result: Result = checkpoint(
            call,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), products_in(products)),
        )
        return result
