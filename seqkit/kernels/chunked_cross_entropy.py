"""Cross-entropy and its gradients in one pass over chunks of rows, so that whole logits never exist."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkit.kernels.arithmetic import BLOCK_ROWS

__all__ = ["SavedGradients", "cross_entropy_sums", "rows_at_a_time"]

# Rows at a time: on a CPU what stays in cache, on a GPU what fills it; more of them where a row is short.
CHUNKS = {"cpu": 256, "cuda": 8192}
HELD = 1 << 24  # slopes that are kept for one product
LOGITS = 1 << 20  # that exist at a time in any case


def rows_at_a_time(weight: Tensor) -> int:
    """How many rows' logits it suits the device to have at one time: weight (V, D)."""
    return max(CHUNKS.get(weight.device.type, 1024), LOGITS // len(weight))


def cross_entropy_sums(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    wanted: Tensor,
    *,
    smoothing: float,
    chunk: int,
    products: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Objective and negative log-likelihood, summed: rows (R, D), weight (V, D), bias (V,), wanted (R,) -> (), ().

    With gradients enabled, those of rows, weight and bias are made in the same pass.
    """
    if torch.is_grad_enabled():
        sums: tuple[Tensor, Tensor] = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, weight, bias, wanted, smoothing, chunk, products
        )
        return sums
    totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
    factor = weight if products is None else weight.to(products)
    for x, y in zip(rows.split(chunk), wanted.split(chunk), strict=True):  # type: ignore[no-untyped-call]
        log_probs = _scores(x, factor, bias).log_softmax(dim=-1)
        totals += _sums(log_probs, y, smoothing)
    objective, nll = totals
    return objective, nll


def _scores(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits in at least float32: x (R, D), weight (V, D) -> (R, V)."""
    product = x.to(weight.dtype) @ weight.T
    return product.to(torch.promote_types(bias.dtype, torch.float32)) + bias


def _sums(log_probs: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Objective and negative log-likelihood of a chunk, summed: (2,)."""
    nll = -log_probs.gather(1, y[:, None]).sum()
    if smoothing == 0:
        return torch.stack([nll, nll])
    spread = -log_probs.sum() / log_probs.shape[1]
    return torch.stack([(1 - smoothing) * nll + smoothing * spread, nll])


class _Pass(NamedTuple):
    """What one pass over all rows found, before the share of label smoothing that is the same for every token."""

    objective: Tensor  # ()
    nll: Tensor  # ()
    d_rows: Tensor  # (R, D)
    d_weight: Tensor  # (V, D)
    d_bias: Tensor  # (V,)


def _pass(rows: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float, chunk: int) -> _Pass:
    """Loss and gradients in the tensors' own arithmetic."""
    d_rows, d_weight, d_bias = torch.empty_like(rows), torch.zeros_like(weight), torch.zeros_like(bias)
    totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
    for start in range(0, len(rows), chunk):
        x, y = rows[start : start + chunk], wanted[start : start + chunk]
        log_probs = _scores(x, weight, bias).log_softmax(dim=-1)
        totals += _sums(log_probs, y, smoothing)
        # d objective / d logits = p - e/V - (1 - e) [y]; the constant e/V is subtracted after the loop,
        # where it costs a vector instead of a pass over every logit.
        slopes = log_probs.exp_()
        slopes[torch.arange(len(y), device=y.device), y] -= 1 - smoothing
        d_bias += slopes.sum(0)
        slopes = slopes.to(weight.dtype)
        d_rows[start : start + chunk] = slopes @ weight
        d_weight.addmm_(slopes.T, x)
    return _Pass(totals[0].clone(), totals[1].clone(), d_rows, d_weight, d_bias)


def _narrow_pass(
    rows: Tensor, weight: Tensor, bias: Tensor, wanted: Tensor, smoothing: float, chunk: int, products: torch.dtype
) -> _Pass:
    """Loss and gradients with the matrix products, and the probabilities between them, in a narrower arithmetic.

    The passes over every logit cost as much as the products, so there are few of them: the bias is a part of the
    product, in two columns that together are as exact as it needs, and the softmax leaves what the gradient's products
    read. The loss needs of each row two logits and the probability of the largest one.
    """
    width = weight.shape[1]
    factor = weight.new_zeros(len(weight), -(-(width + 2) // 16) * 16, dtype=products)  # (V, D + 2, filled up)
    factor[:, :width] = weight
    factor[:, width] = bias
    factor[:, width + 1] = bias - factor[:, width].to(bias.dtype)
    means = factor.float().mean(0)
    d_rows = torch.empty_like(rows)
    d_factor = torch.zeros_like(factor, dtype=torch.float32)
    nll, spread = rows.new_zeros(2, dtype=torch.float32)
    on_cpu = rows.device.type == "cpu"
    held = max(1, HELD // len(factor) // chunk) * chunk if on_cpu else chunk
    for first in range(0, len(rows), held):
        block, asked = rows[first : first + held], wanted[first : first + held]
        x = block.new_zeros(
            -(-len(block) // BLOCK_ROWS) * BLOCK_ROWS if on_cpu else len(block), factor.shape[1], dtype=products
        )
        x[: len(block), :width] = block
        x[: len(block), width : width + 2] = 1
        slopes = x.new_empty(len(x), len(factor))
        for start in range(0, len(x), chunk):
            part = slice(start, min(start + chunk, len(block)))  # without the rows that fill up
            y = asked[part]
            logits = x[start : start + chunk] @ factor.T
            own = torch.softmax(logits, dim=-1, out=slopes[start : start + chunk])
            highest, chance = logits.amax(-1), own.amax(-1)
            normalisers = (highest.float() - chance.float().log())[: len(y)]
            places = torch.arange(len(y), device=y.device)
            nll += (normalisers - logits[places, y].float()).sum()
            spread += normalisers.sum() - x[part].float().sum(0) @ means
            own[places, y] -= 1 - smoothing
            d_rows[first : first + held][part] = (own @ factor)[: len(y), :width]
        # Widening and adding the vocabulary's whole matrix costs as much as a product of a few hundred rows.
        d_factor += slopes.T @ x
    objective = (1 - smoothing) * nll + smoothing * spread
    return _Pass(objective, nll, d_rows, d_factor[:, :width].to(weight.dtype), d_factor[:, width].to(bias.dtype))


class SavedGradients(torch.autograd.Function):
    """A loss whose forward pass saves the gradients of its first three inputs: rows, weight and bias."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """What was saved, scaled."""
        scaled = (slopes * gradient.to(slopes.dtype) for slopes in ctx.saved_tensors)
        return *scaled, *[None] * (len(ctx.needs_input_grad) - 3)


class ChunkedCrossEntropy(SavedGradients):
    """Loss and gradient in one pass over the rows; only one chunk's logits exist at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        wanted: Tensor,
        smoothing: float,
        chunk: int,
        products: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        if products is None:
            found = _pass(rows, weight, bias, wanted, smoothing, chunk)
        else:
            found = _narrow_pass(rows, weight, bias, wanted, smoothing, chunk, products)
        objective, nll, d_rows, d_weight, d_bias = found
        if smoothing:
            share = smoothing / len(weight)
            d_bias -= share * len(rows)
            d_weight -= share * rows.sum(0)
            d_rows -= share * weight.sum(0)
        ctx.save_for_backward(d_rows, d_weight, d_bias)
        ctx.mark_non_differentiable(nll)
        return objective, nll
