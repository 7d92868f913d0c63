"""Cross-entropy and its gradients in one sweep over chunks of rows, so that whole logits never exist."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkit.kernels.arithmetic import BLOCK_ROWS

__all__ = ["SavedGradients", "cross_entropy_sums", "default_chunk"]

# Rows of a chunk: on a CPU as many as stay in cache, on a GPU as many as fill it; more of them where V is small.
CHUNKS = {"cpu": 256, "cuda": 8192}
CHUNK_ENTRIES = 1 << 20  # logits of a chunk, at least
GRADIENT_ENTRIES = 1 << 24  # gradients of logits, of several chunks, that enter one product with the rows


def default_chunk(weight: Tensor) -> int:
    """The number of rows whose logits best exist at one time on the device of weight (V, D)."""
    return max(CHUNKS.get(weight.device.type, 1024), CHUNK_ENTRIES // len(weight))


def cross_entropy_sums(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    smoothing: float,
    chunk: int,
    products: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Objective and negative log-likelihood, summed: rows (R, D), weight (V, D), bias (V,), targets (R,) -> (), ().

    The objective is (1 - e) times the negative log-likelihood plus e times the mean of -log p over the vocabulary, for
    e = `smoothing`. With gradients enabled, those of rows, weight and bias are computed in the same sweep. `products`
    is the arithmetic of matrix products (None: the tensors' own).
    """
    if torch.is_grad_enabled():
        sums: tuple[Tensor, Tensor] = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, weight, bias, targets, smoothing, chunk, products
        )
        return sums
    totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
    factor = weight if products is None else weight.to(products)
    for x, y in zip(rows.split(chunk), targets.split(chunk), strict=True):  # type: ignore[no-untyped-call]
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
    uniform_nll = -log_probs.sum() / log_probs.shape[1]
    return torch.stack([(1 - smoothing) * nll + smoothing * uniform_nll, nll])


class _LossAndGradients(NamedTuple):
    """Sums over all rows; the gradients lack the share of label smoothing that is the same for every token."""

    objective: Tensor  # ()
    nll: Tensor  # ()
    d_rows: Tensor  # (R, D)
    d_weight: Tensor  # (V, D)
    d_bias: Tensor  # (V,)


def _loss_and_gradients(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, chunk: int
) -> _LossAndGradients:
    """Loss and gradients in the tensors' own arithmetic."""
    d_rows, d_weight, d_bias = torch.empty_like(rows), torch.zeros_like(weight), torch.zeros_like(bias)
    totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
    for start in range(0, len(rows), chunk):
        x, y = rows[start : start + chunk], targets[start : start + chunk]
        log_probs = _scores(x, weight, bias).log_softmax(dim=-1)
        totals += _sums(log_probs, y, smoothing)
        # d objective / d logits = p - e/V - (1 - e) [y]; the constant e/V is subtracted from the sums after the loop,
        # which costs a vector instead of an operation on every logit.
        d_logits = log_probs.exp_()
        d_logits[torch.arange(len(y), device=y.device), y] -= 1 - smoothing
        d_bias += d_logits.sum(0)
        d_logits = d_logits.to(weight.dtype)
        d_rows[start : start + chunk] = d_logits @ weight
        d_weight.addmm_(d_logits.T, x)
    return _LossAndGradients(totals[0].clone(), totals[1].clone(), d_rows, d_weight, d_bias)


def _narrow_loss_and_gradients(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, chunk: int, products: torch.dtype
) -> _LossAndGradients:
    """Loss and gradients with the matrix products, and the probabilities between them, in a narrower arithmetic.

    Operations on every logit cost as much as the products, so there are few of them: the bias is a part of the product,
    in two columns whose sum is exact enough, and the softmax is written where the products of the gradients read it.
    The loss of a row needs two logits and the probability of the largest one.
    """
    width = weight.shape[1]
    factor = weight.new_zeros(len(weight), -(-(width + 2) // 16) * 16, dtype=products)  # (V, D + 2, padded)
    factor[:, :width] = weight
    factor[:, width] = bias
    factor[:, width + 1] = bias - factor[:, width].to(bias.dtype)
    means = factor.float().mean(0)
    d_rows = torch.empty_like(rows)
    d_factor = torch.zeros_like(factor, dtype=torch.float32)
    nll, uniform_nll = rows.new_zeros(2, dtype=torch.float32)
    on_cpu = rows.device.type == "cpu"
    rows_per_block = max(1, GRADIENT_ENTRIES // len(factor) // chunk) * chunk if on_cpu else chunk
    for first in range(0, len(rows), rows_per_block):
        block, block_targets = rows[first : first + rows_per_block], targets[first : first + rows_per_block]
        x = block.new_zeros(
            -(-len(block) // BLOCK_ROWS) * BLOCK_ROWS if on_cpu else len(block), factor.shape[1], dtype=products
        )
        x[: len(block), :width] = block
        x[: len(block), width : width + 2] = 1
        d_logits = x.new_empty(len(x), len(factor))
        for start in range(0, len(x), chunk):
            part = slice(start, min(start + chunk, len(block)))  # without the rows of padding
            y = block_targets[part]
            logits = x[start : start + chunk] @ factor.T
            probabilities = torch.softmax(logits, dim=-1, out=d_logits[start : start + chunk])
            highest_logit, highest_probability = logits.amax(-1), probabilities.amax(-1)
            normalisers = (highest_logit.float() - highest_probability.float().log())[: len(y)]
            positions = torch.arange(len(y), device=y.device)
            nll += (normalisers - logits[positions, y].float()).sum()
            uniform_nll += normalisers.sum() - x[part].float().sum(0) @ means
            probabilities[positions, y] -= 1 - smoothing
            d_rows[first : first + rows_per_block][part] = (probabilities @ factor)[: len(y), :width]
        # To widen and add a (V, D) matrix costs as much as a product of a few hundred rows: once for a whole block.
        d_factor += d_logits.T @ x
    objective = (1 - smoothing) * nll + smoothing * uniform_nll
    return _LossAndGradients(
        objective, nll, d_rows, d_factor[:, :width].to(weight.dtype), d_factor[:, width].to(bias.dtype)
    )


class SavedGradients(torch.autograd.Function):
    """A loss whose forward pass saves the gradients of its first three inputs: rows, weight and bias."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """The saved gradients, scaled by that of the objective."""
        scaled = (saved * gradient.to(saved.dtype) for saved in ctx.saved_tensors)
        return *scaled, *[None] * (len(ctx.needs_input_grad) - 3)


class ChunkedCrossEntropy(SavedGradients):
    """Loss and gradients in one sweep over the rows; only one chunk's logits exist at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        chunk: int,
        products: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        if products is None:
            results = _loss_and_gradients(rows, weight, bias, targets, smoothing, chunk)
        else:
            results = _narrow_loss_and_gradients(rows, weight, bias, targets, smoothing, chunk, products)
        objective, nll, d_rows, d_weight, d_bias = results
        if smoothing:
            share = smoothing / len(weight)
            d_bias -= share * len(rows)
            d_weight -= share * rows.sum(0)
            d_rows -= share * weight.sum(0)
        ctx.save_for_backward(d_rows, d_weight, d_bias)
        ctx.mark_non_differentiable(nll)
        return objective, nll
