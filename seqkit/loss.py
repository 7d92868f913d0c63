"""Masked cross-entropy as sums and counts, computed in chunks so that whole logits never exist in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers.linear import narrowed
from seqkit.state import Output

__all__ = ["Tally", "cross_entropy"]

# Rows at a time: on a CPU what stays in cache, on a GPU what fills it.
CHUNKS = {"cpu": 256, "cuda": 8192}


@dataclass(frozen=True)
class Tally:
    """What a loss saw: sums and counts travel, means are made at the end."""

    objective: Tensor  # () what is minimised, summed (label smoothing included)
    nll: Tensor  # () plain negative log-likelihood, summed, in nats
    tokens: Tensor  # () how many positions were counted

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.objective + other.objective, self.nll + other.nll, self.tokens + other.tokens)

    def detach(self) -> Tally:
        """The same sums, cut from the graph."""
        return Tally(self.objective.detach(), self.nll.detach(), self.tokens.detach())

    @property
    def loss(self) -> float:
        """Plain negative log-likelihood per token, in nats; 0 if nothing was counted."""
        return float(self.nll) / max(1, int(self.tokens))

    @property
    def perplexity(self) -> float:
        """exp(loss), per token."""
        return float(torch.tensor(self.loss, dtype=torch.float64).exp())


def cross_entropy(
    hidden: Tensor,
    output: Output,
    targets: Padded,
    *,
    smoothing: float = 0.0,
    chunk: int | None = None,
    products: torch.dtype | None = None,
) -> Tally:
    """Cross-entropy of the output layer's distribution with the targets, over real positions only.

    hidden (B, T, D); targets (B, T). The objective mixes the log-probability of the target with the mean over the
    vocabulary, (1 - e) log p(y) + e mean log p (Szegedy et al., 2016, section 7). With gradients enabled, those of
    hidden, weight and bias are computed in the same pass, `chunk` rows at a time (default: what suits the device).
    `products` is the arithmetic of the matrix products (default: the tensors' own); sums are always made in at least
    float32.
    """
    rows = hidden[targets.mask]  # (R, D)
    wanted = targets.ids[targets.mask]  # (R,)
    chunk = chunk or CHUNKS.get(rows.device.type, 1024)
    if torch.is_grad_enabled():
        sums: tuple[Tensor, Tensor] = ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            rows, output.weight, output.bias, wanted, smoothing, chunk, products
        )
        objective, nll = sums
    else:
        totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
        weight = output.weight if products is None else output.weight.to(products)
        for x, y in zip(rows.split(chunk), wanted.split(chunk), strict=True):  # type: ignore[no-untyped-call]
            log_probs = _scores(x, weight, output.bias).log_softmax(dim=-1)
            totals += _sums(log_probs, y, smoothing)
        objective, nll = totals
    return Tally(objective, nll, targets.mask.sum())


def _factor(rows: Tensor, products: torch.dtype | None) -> Tensor:
    """A chunk as the products take it."""
    return rows if products is None else narrowed(rows, products)


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


class ChunkedCrossEntropy(torch.autograd.Function):
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
        factor = weight if products is None else weight.to(products)
        d_rows = torch.empty_like(rows)
        d_weight = torch.zeros_like(weight)
        d_bias = torch.zeros_like(bias)
        totals = rows.new_zeros(2, dtype=torch.promote_types(rows.dtype, torch.float32))
        for start in range(0, len(rows), chunk):
            x, y = _factor(rows[start : start + chunk], products), wanted[start : start + chunk]
            log_probs = _scores(x, factor, bias)[: len(y)].log_softmax(dim=-1)
            totals += _sums(log_probs, y, smoothing)
            # d objective / d logits = p - e/V - (1 - e) [y]; the constant e/V is subtracted after the loop,
            # where it costs a vector instead of a pass over every logit.
            slopes = log_probs.exp_()
            d_bias += slopes.sum(0)
            slopes[torch.arange(len(y), device=y.device), y] -= 1 - smoothing
            slopes = _factor(slopes, products)
            d_rows[start : start + chunk] = (slopes @ factor)[: len(y)]
            if products is None:
                d_weight.addmm_(slopes.T, x)
            else:
                d_weight += slopes.T @ x
        counts = torch.zeros_like(bias).index_add_(0, wanted, torch.ones_like(wanted, dtype=bias.dtype))
        d_bias -= (1 - smoothing) * counts
        if smoothing:
            share = smoothing / len(weight)
            d_bias -= share * len(rows)
            d_weight -= share * rows.sum(0)
            d_rows -= share * weight.sum(0)
        ctx.save_for_backward(d_rows, d_weight, d_bias)
        objective, nll = totals[0].clone(), totals[1].clone()
        ctx.mark_non_differentiable(nll)
        return objective, nll

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_rows, d_weight, d_bias = ctx.saved_tensors
        scale = gradient.to(d_rows.dtype)
        return d_rows * scale, d_weight * scale, d_bias * scale, None, None, None, None
