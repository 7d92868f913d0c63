"""The linear map of which all layers are made."""

from __future__ import annotations

from torch import Tensor, nn

from seqkit.kernels.linear import linear

__all__ = ["Projection"]


class Projection(nn.Linear):
    """y = W x + b: (..., I) -> (..., O)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
