"""The gated scan: the recurrence of minGRU over all steps of a sequence."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gated_scan"]


def gated_scan(gates: Tensor, candidates: Tensor, before: Tensor, *, log_space: bool | None = None) -> Tensor:
    """h_t = (1 - z_t) h_(t-1) + z_t g(v_t) for z = sigmoid(gates) and v = candidates: (N, T, D) each -> (N, T, D).

    `before` is h_0, (N, D), of any sign; g(v) = v + 1/2 where v >= 0, sigmoid(v) elsewhere, is positive (Feng et al.,
    2024, appendix B). In `log_space` all steps are one parallel scan; otherwise they are computed one after the other,
    which is the default on a CPU, where a step costs next to nothing. States have at least float32.
    """
    wide = torch.promote_types(gates.dtype, torch.float32)
    parallel = gates.device.type != "cpu" if log_space is None else log_space
    states: Tensor = GatedScan.apply(  # type: ignore[no-untyped-call]
        gates.to(wide), candidates.to(wide), before.to(wide), parallel
    )
    return states


class GatedScan(torch.autograd.Function):
    """The scan with a backward pass of its own: the gradient of the states is such a scan from the last step back."""

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
        z, keep = gates.sigmoid(), (-gates).sigmoid()
        d_states = _accumulate_in_log_space(gradient, gates) if ctx.parallel else _accumulate_stepwise(gradient, keep)
        previous = torch.cat([before[:, None], states[:, :-1]], dim=1)
        d_gates = (new - previous).mul_(d_states).mul_(z).mul_(keep)
        d_candidates = torch.where(candidates >= 0, torch.ones_like(new), new * (1 - new)).mul_(z).mul_(d_states)
        return d_gates, d_candidates, d_states[:, 0] * keep[:, 0], None


def _scan_stepwise(gates: Tensor, new: Tensor, before: Tensor) -> Tensor:
    """h_t = (1 - z_t) h_(t-1) + z_t new_t, one step after the other: (N, T, D)."""
    states, state = torch.empty_like(new), before
    for z_t, new_t, after in zip(gates.sigmoid().unbind(1), new.unbind(1), states.unbind(1), strict=True):
        state = torch.lerp(state, new_t, z_t, out=after)
    return states


def _scan_in_log_space(gates: Tensor, new: Tensor, before: Tensor) -> Tensor:
    """h_t = K_t (h_0 + sum over s <= t of z_s new_s / K_s), K_t the product of 1 - z up to t (Heinsen, 2023).

    Products become sums of logarithms and sums log-sum-exps, so that no K underflows.
    """
    log_keep = -F.softplus(gates).cumsum(1)  # log K
    log_new = new.log() - F.softplus(-gates)
    return (log_keep + (log_new - log_keep).logcumsumexp(1)).exp() + log_keep.exp() * before[:, None]


def _accumulate_stepwise(gradient: Tensor, keep: Tensor) -> Tensor:
    """The gradient of each state, all later steps included, d_t = gradient_t + (1 - z_(t+1)) d_(t+1): (N, T, D)."""
    d_states = gradient.clone()
    steps = list(zip(d_states.unbind(1), keep.unbind(1), strict=True))
    for (d_state, _), (d_state_after, keep_after) in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
        d_state.addcmul_(d_state_after, keep_after)
    return d_states


def _accumulate_in_log_space(gradient: Tensor, gates: Tensor) -> Tensor:
    """d_t = (sum over s >= t of K_s gradient_s) / K_t; positive and negative gradients are summed separately."""
    log_keep = -F.softplus(gates).cumsum(1)
    positive, negative = (
        ((part.log() + log_keep).flip(1).logcumsumexp(1).flip(1) - log_keep).exp()
        for part in (gradient.clamp(min=0), (-gradient).clamp(min=0))
    )
    return positive - negative
