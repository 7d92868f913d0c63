"""A GRU layer for the CPU whose matrix products run in a narrower arithmetic than its state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.kernels.arithmetic import cast_in_blocks

__all__ = ["narrow_gru"]


def narrow_gru(x: Tensor, before: Tensor, weights: list[Tensor], *, dtype: torch.dtype) -> Tensor:
    """The outputs (N, T, D) of one GRU layer (Cho et al., 2014) that reads x (N, T, I) on from `before` (N, D).

    `weights` are torch's: W (3D, I), U (3D, D) and their biases. Only the inputs and outputs of products are rounded to
    `dtype`: gates, states and the sums of gradients over time stay in the arithmetic of x.
    """
    out: Tensor = NarrowGRU.apply(x.transpose(0, 1), before, *weights, dtype)  # type: ignore[no-untyped-call]
    return out.transpose(0, 1)


class NarrowGRU(torch.autograd.Function):
    """The layer with time first: all that does not depend on the state is one operation over all steps.

    With c = U_n h + b_n, n = tanh(W_n x + b + r c) and h' = n + z (h - n) for gates r and z. On a CPU torch's tanh
    takes six times as long as its sigmoid, so n = 1 - 2 m with m = sigmoid(-2 (W_n x + b + r c)).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, w: Tensor, u: Tensor, b_w: Tensor, b_u: Tensor, dtype: torch.dtype
    ) -> Tensor:
        steps, (rows, width) = len(x), h.shape
        inputs = cast_in_blocks(x.reshape(steps * rows, x.shape[2]), dtype)  # (T*N and padding, I)
        w, u = w.to(dtype), u.to(dtype)
        b_rz, b_n = torch.split(b_u, [2 * width, width])
        gates = (inputs @ w.T)[: steps * rows].to(x.dtype)
        gates.add_(torch.cat([b_w[: 2 * width] + b_rz, b_w[2 * width :]]))
        rz, m = torch.split(gates.view(steps, rows, 3 * width), [2 * width, width], dim=2)
        r, z = torch.split(rz, width, dim=2)
        m.mul_(-2)
        candidates, out = x.new_empty(steps, rows, width), x.new_empty(steps, rows, width)
        first, u_t = h, u.T
        for rz_t, r_t, z_t, m_t, candidate, after in zip(rz, r, z, m, candidates, out, strict=True):
            state_rz, state_n = torch.split(h.to(dtype) @ u_t, [2 * width, width], dim=1)
            rz_t.add_(state_rz).sigmoid_()
            torch.add(state_n, b_n, out=candidate)
            m_t.addcmul_(r_t, candidate, value=-2).sigmoid_()
            h = torch.lerp(torch.rsub(m_t, 1, alpha=2), h, z_t, out=after)
        ctx.save_for_backward(inputs, first, w, u, gates, candidates, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, first, w, u, gates, candidates, out = ctx.saved_tensors
        steps, rows, width = out.shape
        r, z, m = gates.view(steps, rows, 3, width).unbind(2)
        # The derivatives of h' by the sums inside the sigmoids of r and z, and by c.
        derivatives = torch.empty_like(gates).view(steps, rows, 3, width)
        by_r, by_z, by_c = derivatives.unbind(2)
        n, one_minus_z = torch.rsub(m, 1, alpha=2), 1 - z
        torch.sub(out, n, out=by_z).mul_(one_minus_z)
        by_n = one_minus_z.addcmul_(one_minus_z * n, n, value=-1)  # (1 - z)(1 - n^2)
        torch.mul(by_n, r, out=by_c)
        torch.addcmul(by_c, by_c, r, value=-1, out=by_r).mul_(candidates)

        d_states = torch.cat([torch.zeros_like(out[:1]), gradient])  # from the state before the first step on
        all_steps = list(zip(derivatives, z, d_states[1:], d_states[:-1], strict=True))
        for derivative_t, z_t, d_after, d_before in reversed(all_steps):
            d_sums = derivative_t.mul_(d_after[:, None]).view(rows, 3 * width)
            d_before.addcmul_(d_after, z_t).add_(d_sums.to(u.dtype) @ u)

        flat = derivatives.view(steps * rows, 3 * width)
        d_sums = cast_in_blocks(flat, u.dtype)
        states = torch.zeros(len(d_sums), width, dtype=u.dtype)
        states[:rows] = first
        states[rows : steps * rows] = out[:-1].view(-1, width)
        d_u, d_b_u = (d_sums.T @ states).to(out.dtype), flat.sum(0)
        # The input's part of the sum for n is not multiplied by r; the other gradients are those of the state's parts.
        d_n = by_n.mul_(d_states[1:]).view(-1, width)
        d_sums[: steps * rows, 2 * width :] = d_n
        d_w, d_b_w = (d_sums.T @ inputs).to(out.dtype), torch.cat([d_b_u[: 2 * width], d_n.sum(0)])
        d_x = (d_sums @ w)[: steps * rows].to(out.dtype).view(steps, rows, -1)
        return d_x, d_states[0], d_w, d_u, d_b_w, d_b_u, None
