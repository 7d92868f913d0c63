"""Linear maps whose matrix products may run in a narrower arithmetic than everything around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.arithmetic import cast_in_blocks, product_dtype

__all__ = ["feed_forward", "joint_linear", "linear"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b: x (..., I), weight (O, I), bias (O,) -> (..., O), in the arithmetic that `products_in` sets."""
    dtype = product_dtype(x)
    if dtype is None:
        return F.linear(x, weight, bias)
    (result,) = NarrowLinear.apply(x, dtype, weight, bias)  # type: ignore[no-untyped-call]
    return result  # type: ignore[no-any-return]


def joint_linear(x: Tensor, maps: Sequence[nn.Linear]) -> Sequence[Tensor]:
    """Several linear maps of one input, x (..., I) -> (..., O) each, by one product, as `products_in` sets it.

    Their parameters stay separate, for optimizers that treat each matrix as a whole (Muon), exporters and readers.
    """
    dtype = product_dtype(x)
    if dtype is None:
        weights: list[Tensor] = [module.weight for module in maps]
        biases: list[Tensor] = [
            module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias for module in maps
        ]
        joined = F.linear(x, torch.cat(weights), torch.cat(biases))
        return torch.split_with_sizes(joined, [len(module.weight) for module in maps], dim=-1)
    parameters = [parameter for module in maps for parameter in (module.weight, module.bias)]
    results: tuple[Tensor, ...] = NarrowLinear.apply(x, dtype, *parameters)  # type: ignore[no-untyped-call]
    return results


class NarrowLinear(torch.autograd.Function):
    """Linear maps of one input with all products in a narrow arithmetic, in which the input is kept as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        rows = cast_in_blocks(flat, dtype)
        weights = [weight for weight in parameters[::2] if weight is not None]
        biases = parameters[1::2]
        factors = [weight.to(dtype) for weight in weights]
        factor = torch.cat(factors) if len(factors) > 1 else factors[0]
        ctx.save_for_backward(rows, factor)
        ctx.sizes = [len(weight) for weight in weights]
        ctx.biased = [bias is not None for bias in biases]
        parts = []
        for part, bias in zip(
            torch.split_with_sizes((rows @ factor.T)[: len(flat)], ctx.sizes, dim=1), biases, strict=True
        ):
            wide = part.float()
            if bias is not None:
                wide += bias
            parts.append(wide.view(*x.shape[:-1], -1))
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, factor = ctx.saved_tensors
        wide = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        count = len(wide[0])
        narrow = rows.new_empty(len(rows), len(factor))
        narrow[count:] = 0
        for part, gradient in zip(torch.split_with_sizes(narrow[:count], ctx.sizes, dim=1), wide, strict=True):
            part.copy_(gradient)
        d_x = (narrow @ factor)[:count].float().view(*gradients[0].shape[:-1], rows.shape[1])
        input_gradients: list[Tensor | None] = [d_x, None]
        d_weights = torch.split_with_sizes((narrow.T @ rows).float(), ctx.sizes)
        for d_weight, gradient, biased in zip(d_weights, wide, ctx.biased, strict=True):
            input_gradients += [d_weight, gradient.sum(0) if biased else None]
        return tuple(input_gradients)


def feed_forward(x: Tensor, inner: nn.Linear, outer: nn.Linear, activation: Literal["relu", "gelu"]) -> Tensor:
    """outer(activation(inner(x))), x (..., D) -> (..., D), in the arithmetic that `products_in` sets.

    The inner layer, several times as large as input and output, stays in that arithmetic between the two products.
    """
    dtype = product_dtype(x)
    if dtype is None:
        mapped = inner(x)
        result: Tensor = outer(F.relu(mapped) if activation == "relu" else F.gelu(mapped))
        return result
    results: Tensor = NarrowFeedForward.apply(  # type: ignore[no-untyped-call]
        x, inner.weight, inner.bias, outer.weight, outer.bias, activation, dtype
    )
    return results


class NarrowFeedForward(torch.autograd.Function):
    """Two linear maps with an activation between, in a narrow arithmetic from the first product to the second."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        outer_weight: Tensor,
        outer_bias: Tensor,
        activation: str,
        dtype: torch.dtype,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        rows, first, second = cast_in_blocks(flat, dtype), weight.to(dtype), outer_weight.to(dtype)
        mapped = (rows @ first.T).add_(bias.to(dtype))
        activated = mapped.relu_() if activation == "relu" else F.gelu(mapped)
        ctx.activation = activation
        ctx.save_for_backward(rows, first, second, mapped, activated)
        result = (activated @ second.T)[: len(flat)].float()
        result += outer_bias
        return result.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, first, second, mapped, activated = ctx.saved_tensors
        wide = gradient.reshape(-1, gradient.shape[-1])
        narrow = cast_in_blocks(wide, rows.dtype)
        d_mapped = narrow @ second
        if ctx.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(d_mapped, mapped, 0, grad_input=d_mapped)
        else:
            d_mapped = torch.ops.aten.gelu_backward(d_mapped, mapped)
        d_x = (d_mapped @ first)[: len(wide)].float().view_as(gradient)
        d_weight, d_outer = (d_mapped.T @ rows).float(), (narrow.T @ activated).float()
        d_bias = (d_mapped.new_ones(1, len(d_mapped)) @ d_mapped)[0].float()  # `sum` would widen all of it first
        return d_x, d_weight, d_bias, d_outer, wide.sum(0), None, None
