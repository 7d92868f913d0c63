"""R-Drop: two readings of a batch under different dropout, drawn towards each other (Liang et al., 2021).

The loss of a token is half of the paper's equation 4, so that weight 0 is the plain loss of the two readings' mean:

    (1/2) (CE(p) + CE(q)) + (weight / 2) * (1/2) (KL(p | q) + KL(q | p))

As in `loss`, gradients are made in the same pass, so that only a chunk's logits exist at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.loss import MadeAhead, Tally, real_rows, rows_at_a_time
from seqkit.state import Output

__all__ = ["agreeing_cross_entropy"]


def agreeing_cross_entropy(
    hidden: Tensor,
    output: Output,
    targets: Padded,
    *,
    weight: float,
    smoothing: float = 0.0,
    chunk: int | None = None,
    products: torch.dtype | None = None,
) -> Tally:
    """The mean cross-entropy of two readings and `weight` times half of what they differ by, over real positions.

    hidden (2B, T, D), the second reading of row b in row B + b; targets (B, T). Smoothing, `chunk` and `products` are
    those of `cross_entropy`. The tally counts each target once.
    """
    rows, wanted = real_rows(torch.stack(hidden.chunk(2), dim=2), targets)
    rows = rows.movedim(1, 0)  # (R, 2, D) -> (2, R, D)
    chunk = chunk or max(1, rows_at_a_time(output) // 2)
    objective, nll = AgreeingCrossEntropy.apply(  # type: ignore[no-untyped-call]
        rows, output.weight, output.bias, wanted, weight, smoothing, chunk, products
    )
    return Tally(objective, nll, targets.mask.sum())


class AgreeingCrossEntropy(MadeAhead):
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
