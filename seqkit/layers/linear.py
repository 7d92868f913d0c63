"""Linear maps whose matrix products may run in a narrower arithmetic than everything around them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "PRODUCTS",
    "Linear",
    "feed_forward",
    "filled_up",
    "frozen",
    "linear",
    "narrowed",
    "products_in",
    "projections",
]

ROWS = 128
PACKED = 1 << 18  # entries of a matrix from which on it is worth laying out anew

PRODUCTS: ContextVar[torch.dtype | None] = ContextVar("PRODUCTS", default=None)


@contextlib.contextmanager
def products_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Within the body, products of `linear` are made in `dtype` and summed and handed on in float32.

    This is narrower than autocast: only the products change, so nothing else has to be converted back and forth, and on
    a processor with bfloat16 instructions even small layers gain. None leaves everything as it is.
    """
    token = PRODUCTS.set(dtype)
    try:
        yield
    finally:
        PRODUCTS.reset(token)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,) -> (..., O), with the products that `products_in` asks for."""
    dtype = _asked_for(x)
    if dtype is None:
        return F.linear(x, weight, bias)
    (result,) = NarrowProjections.apply(x, dtype, weight, bias)  # type: ignore[no-untyped-call]
    return result  # type: ignore[no-any-return]


def _asked_for(x: Tensor) -> torch.dtype | None:
    """The arithmetic for products with x; None where nothing asks for another than its own."""
    if torch.compiler.is_compiling() or x.dtype != torch.float32:
        return None  # a compiler cannot look into a context, and narrows products by autocast
    return PRODUCTS.get()


def projections(x: Tensor, maps: Sequence[nn.Linear]) -> Sequence[Tensor]:
    """Several linear maps of one input, x (..., I) -> (..., O) each, by one product, as `products_in` asks for it.

    The maps stay apart as parameters, because optimizers that treat each matrix as a whole (Muon), exporters and
    readers want them apart.
    """
    dtype = _asked_for(x)
    if dtype is None:
        weights: list[Tensor] = [each.weight for each in maps]
        biases: list[Tensor] = [
            each.weight.new_zeros(len(each.weight)) if each.bias is None else each.bias for each in maps
        ]
        joined = F.linear(x, torch.cat(weights), torch.cat(biases))
        return torch.split_with_sizes(joined, [len(each.weight) for each in maps], dim=-1)
    parameters = [parameter for each in maps for parameter in (each.weight, each.bias)]
    made: tuple[Tensor, ...] = NarrowProjections.apply(x, dtype, *parameters)  # type: ignore[no-untyped-call]
    return made


class NarrowProjections(torch.autograd.Function):
    """Linear maps of one input with all products in a narrow arithmetic; keeps its input in that arithmetic too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, *parameters: Tensor | None) -> tuple[Tensor, ...]:
        flat = x.reshape(-1, x.shape[-1])
        rows = narrowed(flat, dtype)
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
        found: list[Tensor | None] = [d_x, None]
        d_weights = torch.split_with_sizes((narrow.T @ rows).float(), ctx.sizes)
        for d_weight, gradient, biased in zip(d_weights, wide, ctx.biased, strict=True):
            found += [d_weight, gradient.sum(0) if biased else None]
        return tuple(found)


def feed_forward(x: Tensor, inner: nn.Linear, outer: nn.Linear, activation: Literal["relu", "gelu"]) -> Tensor:
    """outer(activation(inner(x))), x (..., D) -> (..., D), with the products that `products_in` asks for.

    What is between narrow products stays narrow: it is several times as wide as what goes in and out, and would only be
    widened to be narrowed again.
    """
    dtype = _asked_for(x)
    if dtype is None:
        mapped = inner(x)
        result: Tensor = outer(F.relu(mapped) if activation == "relu" else F.gelu(mapped))
        return result
    made: Tensor = NarrowFeedForward.apply(  # type: ignore[no-untyped-call]
        x, inner.weight, inner.bias, outer.weight, outer.bias, activation, dtype
    )
    return made


class NarrowFeedForward(torch.autograd.Function):
    """Two linear maps with an activation between, from the first product to the second in a narrow arithmetic."""

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
        rows, first, second = narrowed(flat, dtype), weight.to(dtype), outer_weight.to(dtype)
        mapped = (rows @ first.T).add_(bias.to(dtype))
        active = mapped.relu_() if activation == "relu" else F.gelu(mapped)
        ctx.activation = activation
        ctx.save_for_backward(rows, first, second, mapped, active)
        result = (active @ second.T)[: len(flat)].float()
        result += outer_bias
        return result.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, first, second, mapped, active = ctx.saved_tensors
        wide = gradient.reshape(-1, gradient.shape[-1])
        narrow = narrowed(wide, rows.dtype)
        slopes = narrow @ second
        if ctx.activation == "relu":
            torch.ops.aten.threshold_backward.grad_input(slopes, mapped, 0, grad_input=slopes)
        else:
            slopes = torch.ops.aten.gelu_backward(slopes, mapped)
        d_x = (slopes @ first)[: len(wide)].float().view_as(gradient)
        d_weight, d_outer = (slopes.T @ rows).float(), (narrow.T @ active).float()
        d_bias = (slopes.new_ones(1, len(slopes)) @ slopes)[0].float()  # a sum would widen all of them first
        return d_x, d_weight, d_bias, d_outer, wide.sum(0), None, None


def frozen(
    weight: Tensor, bias: Tensor, *, few: bool = True, products: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    """The linear map of weight (O, I) and bias (O,), as they are now: (..., I) -> (..., O), without gradients.

    On a CPU a large matrix is laid out once as oneDNN reads it, instead of at each call: products of few rows take half
    the time, those of many four fifths. A small one gains nothing from it where inputs have `few` rows. With
    `products` the weights are kept and multiplied in that arithmetic; results have the arithmetic of the inputs again.
    """
    weight, bias = weight.detach(), bias.detach()
    if products is not None:
        factor = weight.to(products)

        def narrow(x: Tensor) -> Tensor:
            flat = x.reshape(-1, x.shape[-1])
            # A kernel for each number of rows costs more than rows of zeros, unless there are very few.
            rows = flat.to(products) if len(flat) < ROWS // 2 else narrowed(flat, products)
            found = F.linear(rows, factor)[: len(flat)].to(x.dtype).add_(bias)
            return found.view(*x.shape[:-1], len(bias))

        return narrow
    kernels = torch.ops.mkldnn
    if (
        weight.device.type != "cpu"
        or weight.dtype != torch.float32
        or (few and weight.numel() < PACKED)
        or not hasattr(kernels, "_linear_pointwise")
    ):
        return partial(F.linear, weight=weight, bias=bias)
    packed = kernels._reorder_linear_weight(weight.contiguous(), None)

    def product(x: Tensor) -> Tensor:
        result: Tensor = kernels._linear_pointwise(x, packed, bias, "none", [], "")
        return result

    return product


def filled_up(rows: int) -> int:
    """The multiple of `ROWS` that holds so many rows."""
    return -(-rows // ROWS) * ROWS


def narrowed(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """rows (R, D) in another arithmetic, zero rows added up to a multiple of `ROWS`.

    On a CPU each new shape of a narrow product costs a kernel to be generated, which takes as long as several products
    and stays in memory; batches of text come in hundreds of shapes, multiples of `ROWS` in a dozen.
    """
    count = filled_up(len(rows))
    if count == len(rows) or rows.device.type != "cpu":
        return rows.to(dtype)
    padded = rows.new_empty(count, rows.shape[1], dtype=dtype)
    padded[: len(rows)] = rows
    padded[len(rows) :] = 0
    return padded


class Linear(nn.Linear):
    """nn.Linear by way of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
