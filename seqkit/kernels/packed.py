"""Linear maps whose weights are laid out in advance, for models that are not trained any further."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.kernels.arithmetic import BLOCK_ROWS, cast_in_blocks

__all__ = ["PREPACKED_ENTRIES", "prepacked_linear"]

PREPACKED_ENTRIES = 1 << 18  # entries of a matrix from which on a layout in advance pays


def prepacked_linear(
    weight: Tensor, bias: Tensor, *, few_rows: bool = True, products: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    """The linear map of weight (O, I) and bias (O,), as they are now: (..., I) -> (..., O), without gradients.

    On a CPU a large matrix is laid out once as oneDNN reads it, instead of at each call: products of few rows take half
    the time, those of many four fifths. A small matrix gains nothing from it where inputs have `few_rows`. With
    `products` the weights are kept and multiplied in that arithmetic; results have the arithmetic of the inputs.
    """
    weight, bias = weight.detach(), bias.detach()
    if products is not None:
        factor = weight.to(products)

        def narrow(x: Tensor) -> Tensor:
            flat = x.reshape(-1, x.shape[-1])
            # A kernel for each number of rows costs more than padding, unless there are very few rows.
            rows = flat.to(products) if len(flat) < BLOCK_ROWS // 2 else cast_in_blocks(flat, products)
            mapped = F.linear(rows, factor)[: len(flat)].to(x.dtype).add_(bias)
            return mapped.view(*x.shape[:-1], len(bias))

        return narrow
    kernels = torch.ops.mkldnn
    if (
        weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or (few_rows and weight.numel() < PREPACKED_ENTRIES)
        or not hasattr(kernels, "_linear_pointwise")
    ):
        return partial(F.linear, weight=weight, bias=bias)
    packed = kernels._reorder_linear_weight(weight.contiguous(), None)

    def product(x: Tensor) -> Tensor:
        result: Tensor = kernels._linear_pointwise(x, packed, bias, "none", [], "")
        return result

    return product
