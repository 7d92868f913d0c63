"""The loss of R-Drop and its gradients in one sweep over chunks of rows, so that whole logits never exist."""

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
    targets: Tensor,
    *,
    divergence_weight: float,
    smoothing: float,
    chunk: int,
    products: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Objective and mean negative log-likelihood of two passes, summed: rows (2, R, D), weight (V, D), bias (V,),
    targets (R,) -> (), ().

    The objective is (1/2) (CE(p) + CE(q)) + (w / 2) (1/2) (KL(p | q) + KL(q | p)) for w = `divergence_weight` (Liang et
    al., 2021, equation 4, halved). Only the objective has gradients, by rows, weight and bias.
    """
    sums: tuple[Tensor, Tensor] = RDropCrossEntropy.apply(  # type: ignore[no-untyped-call]
        rows, weight, bias, targets, divergence_weight, smoothing, chunk, products
    )
    return sums


class RDropCrossEntropy(SavedGradients):
    """Loss and gradients in one sweep over the rows of both passes: rows (2, R, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        divergence_weight: float,
        smoothing: float,
        chunk: int,
        products: torch.dtype | None,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(bias.dtype, torch.float32)
        factor = weight if products is None else weight.to(products)
        d_rows, d_bias = torch.empty_like(rows), torch.zeros_like(bias)
        d_weight = torch.zeros_like(weight, dtype=wide)
        objective, nll = rows.new_zeros(2, dtype=wide)
        half = divergence_weight / 2
        for start in range(0, len(targets), chunk):
            y = targets[start : start + chunk]
            x = rows[:, start : start + chunk].to(factor.dtype)
            log_p, log_q = ((x @ factor.T).to(wide) + bias).log_softmax(dim=-1)
            target_entries = torch.arange(len(y), device=y.device), y
            target_nll = -(log_p[target_entries] + log_q[target_entries]).sum() / 2
            uniform_nll = -(log_p.sum() + log_q.sum()) / (2 * len(weight)) if smoothing else 0.0
            p, q = log_p.exp(), log_q.exp()
            log_ratio, difference = log_p.sub_(log_q), p - q
            kl_pq = (p * log_ratio).sum(-1, keepdim=True)  # KL(p | q)
            kl_qp = (q * log_ratio).sum(-1, keepdim=True).neg_()  # KL(q | p)
            nll += target_nll
            objective += (1 - smoothing) * target_nll + smoothing * uniform_nll + half * (kl_pq + kl_qp).sum() / 2
            # d CE(p) / d logits = p - e/V - (1 - e) [y], e/V being subtracted after the loop, and
            # d (KL(p | q) + KL(q | p)) / d logits of p = p (log p - log q - KL(p | q)) + p - q.
            difference.mul_(half)
            p.mul_((log_ratio - kl_pq).mul_(half).add_(1)).add_(difference)
            q.mul_((log_ratio + kl_qp).mul_(-half).add_(1)).sub_(difference)
            p[target_entries] -= 1 - smoothing
            q[target_entries] -= 1 - smoothing
            d_logits = torch.stack([p, q]).div_(2)
            d_bias += d_logits.sum((0, 1))
            d_logits = d_logits.to(factor.dtype)
            d_rows[:, start : start + chunk] = d_logits @ factor
            d_weight += d_logits.flatten(0, 1).T @ x.flatten(0, 1)
        if smoothing:
            share = smoothing / len(weight)
            d_bias -= share * len(targets)
            d_weight -= share / 2 * rows.sum((0, 1))
            d_rows -= share / 2 * weight.sum(0)
        ctx.save_for_backward(d_rows, d_weight.to(weight.dtype), d_bias)
        ctx.mark_non_differentiable(nll)
        return objective, nll
