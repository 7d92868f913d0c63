"""The loss of R-Drop and its gradients in one pass over chunks of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.kernels.chunked_cross_entropy import SavedGradients

__all__ = ["agreement_sums"]


def agreement_sums(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    wanted: Tensor,
    *,
    pull: float,
    smoothing: float,
    chunk: int,
    products: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Objective and mean negative log-likelihood of two readings, summed: rows (2, R, D), weight (V, D), bias (V,),
    wanted (R,) -> (), ().

    The objective is (1/2) (CE(p) + CE(q)) + (pull / 2) (1/2) (KL(p | q) + KL(q | p)) (Liang et al., 2021, equation 4,
    halved).
    """
    sums: tuple[Tensor, Tensor] = AgreeingCrossEntropy.apply(  # type: ignore[no-untyped-call]
        rows, weight, bias, wanted, pull, smoothing, chunk, products
    )
    return sums


class AgreeingCrossEntropy(SavedGradients):
    """Loss and gradient in one pass over the rows of both readings: rows (2, R, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        wanted: Tensor,
        pull: float,
        smoothing: float,
        chunk: int,
        products: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(bias.dtype, torch.float32)
        factor = weight if products is None else weight.to(products)
        d_rows, d_bias = torch.empty_like(rows), torch.zeros_like(bias)
        d_weight = torch.zeros_like(weight, dtype=wide)
        objective, nll = rows.new_zeros(2, dtype=wide)
        half = pull / 2
        for start in range(0, len(wanted), chunk):
            y = wanted[start : start + chunk]
            x = rows[:, start : start + chunk].to(factor.dtype)
            log_p, log_q = ((x @ factor.T).to(wide) + bias).log_softmax(dim=-1)
            own = torch.arange(len(y), device=y.device), y
            right = -(log_p[own] + log_q[own]).sum() / 2
            spread = -(log_p.sum() + log_q.sum()) / (2 * len(weight)) if smoothing else 0.0
            p, q = log_p.exp(), log_q.exp()
            apart, surplus = log_p.sub_(log_q), p - q
            to_q = (p * apart).sum(-1, keepdim=True)  # KL(p | q)
            to_p = (q * apart).sum(-1, keepdim=True).neg_()  # KL(q | p)
            nll += right
            objective += (1 - smoothing) * right + smoothing * spread + half * (to_q + to_p).sum() / 2
            # d CE(p) / d logits = p - e/V - (1 - e) [y], e/V being subtracted after the loop, and
            # d (KL(p | q) + KL(q | p)) / d logits of p = p (log p - log q - KL(p | q)) + p - q.
            surplus.mul_(half)
            p.mul_((apart - to_q).mul_(half).add_(1)).add_(surplus)
            q.mul_((apart + to_p).mul_(-half).add_(1)).sub_(surplus)
            p[own] -= 1 - smoothing
            q[own] -= 1 - smoothing
            slopes = torch.stack([p, q]).div_(2)
            d_bias += slopes.sum((0, 1))
            slopes = slopes.to(factor.dtype)
            d_rows[:, start : start + chunk] = slopes @ factor
            d_weight += slopes.flatten(0, 1).T @ x.flatten(0, 1)
        if smoothing:
            share = smoothing / len(weight)
            d_bias -= share * len(wanted)
            d_weight -= share / 2 * rows.sum((0, 1))
            d_rows -= share / 2 * weight.sum(0)
        ctx.save_for_backward(d_rows, d_weight.to(weight.dtype), d_bias)
        ctx.mark_non_differentiable(nll)
        return objective, nll
