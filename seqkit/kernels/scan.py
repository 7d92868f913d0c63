"""Gated means over time: the recurrence of minGRU, for all steps of a sequence at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gated_scan"]


def gated_scan(gates: Tensor, candidates: Tensor, before: Tensor, *, log_space: bool | None = None) -> Tensor:
    """h_t = (1 - z_t) h_(t-1) + z_t g(v_t) for z = sigmoid(gates) and v = candidates: (N, T, D) each -> (N, T, D).

    `before` is h_0, (N, D), of any sign; g(v) = v + 1/2 where v >= 0, sigmoid(v) elsewhere, is positive (Feng et al.,
    2024, appendix B). In `log_space` all steps are one parallel scan; otherwise they follow each other in place. By
    default steps follow each other on a CPU, where a step costs next to nothing, and nowhere else. States are kept in
    at least float32.
    """
    wide = torch.promote_types(gates.dtype, torch.float32)
    parallel = gates.device.type != "cpu" if log_space is None else log_space
    states: Tensor = GatedScan.apply(  # type: ignore[no-untyped-call]
        gates.to(wide), candidates.to(wide), before.to(wide), parallel
    )
    return states


class GatedScan(torch.autograd.Function):
    """The scan with its gradient made by hand: by the states it is a scan of the same kind, from the last step back."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, candidates: Tensor, before: Tensor, parallel: bool) -> Tensor:
        new = torch.where(candidates >= 0, candidates + 0.5, candidates.sigmoid())  # g(v)
        ctx.parallel = parallel
        states = _scan_in_log_space(gates, new, before) if parallel else _scan_stepwise(gates, new, before)
        ctx.save_for_backward(gates, candidates, new, states, before)
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates, candidates, new, states, before = ctx.saved_tensors
        z, kept = gates.sigmoid(), (-gates).sigmoid()
        slopes = _gather_in_log_space(gradient, gates) if ctx.parallel else _gather_stepwise(gradient, kept)
        earlier = torch.cat([before[:, None], states[:, :-1]], dim=1)
        d_gates = (new - earlier).mul_(slopes).mul_(z).mul_(kept)
        d_candidates = torch.where(candidates >= 0, torch.ones_like(new), new * (1 - new)).mul_(z).mul_(slopes)
        return d_gates, d_candidates, slopes[:, 0] * kept[:, 0], None


def _scan_stepwise(gates: Tensor, new: Tensor, before: Tensor) -> Tensor:
    states, state = torch.empty_like(new), before
    for z_t, new_t, after in zip(gates.sigmoid().unbind(1), new.unbind(1), states.unbind(1), strict=True):
        state = torch.lerp(state, new_t, z_t, out=after)
    return states


def _scan_in_log_space(gates: Tensor, new: Tensor, before: Tensor) -> Tensor:
    """h_t = K_t (h_0 + sum over s <= t of z_s new_s / K_s), K_t the product of 1 - z up to t (Heinsen, 2023).

    Products become sums and sums log-sum-exps, so that no K vanishes.
    """
    log_kept = -F.softplus(gates).cumsum(1)  # log K
    log_new = new.log() - F.softplus(-gates)
    return (log_kept + (log_new - log_kept).logcumsumexp(1)).exp() + log_kept.exp() * before[:, None]


def _gather_stepwise(gradient: Tensor, kept: Tensor) -> Tensor:
    """The gradient of each state, all later steps included, d_t = gradient_t + kept_(t+1) d_(t+1): (N, T, D)."""
    slopes = gradient.clone()
    steps = list(zip(slopes.unbind(1), kept.unbind(1), strict=True))
    for (slope, _), (slope_after, kept_after) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        slope.addcmul_(slope_after, kept_after)
    return slopes


def _gather_in_log_space(gradient: Tensor, gates: Tensor) -> Tensor:
    """d_t = (sum over s >= t of K_s gradient_s) / K_t, summed apart for what is above and what is below zero."""
    log_kept = -F.softplus(gates).cumsum(1)
    above, below = (
        ((part.log() + log_kept).flip(1).logcumsumexp(1).flip(1) - log_kept).exp()
        for part in (gradient.clamp(min=0), (-gradient).clamp(min=0))
    )
    return above - below
