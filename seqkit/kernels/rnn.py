"""A plain recurrent layer for the CPU whose matrix products run in a narrower arithmetic than its state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.kernels.arithmetic import cast_in_blocks

__all__ = ["narrow_rnn"]


def narrow_rnn(x: Tensor, before: Tensor, weights: list[Tensor], *, dtype: torch.dtype) -> Tensor:
    """The outputs (N, T, D) of one layer of tanh units (Elman, 1990) that reads x (N, T, I) on from `before` (N, D).

    `weights` are torch's: W (D, I), U (D, D) and their biases. Only the inputs and outputs of products are rounded to
    `dtype`: states and the sums of gradients over time stay in the arithmetic of x.
    """
    out: Tensor = NarrowRNN.apply(x.transpose(0, 1), before, *weights, dtype)  # type: ignore[no-untyped-call]
    return out.transpose(0, 1)


class NarrowRNN(torch.autograd.Function):
    """The layer with time first: all that does not depend on the state is one operation over all steps.

    h' = tanh(a) with a = W x + U h + b, computed as 1 - 2 sigmoid(-2 a): on a CPU torch's tanh takes six times as long
    as its sigmoid. The factor -2 is in the matrices, where a power of two rounds nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, w: Tensor, u: Tensor, b_w: Tensor, b_u: Tensor, dtype: torch.dtype
    ) -> Tensor:
        steps, (rows, width) = len(x), h.shape
        inputs = cast_in_blocks(x.reshape(steps * rows, x.shape[2]), dtype)  # (T*N and padding, I)
        w, u = w.to(dtype), u.to(dtype)
        sums = (inputs @ (-2 * w).T)[: steps * rows].to(x.dtype).view(steps, rows, width)
        sums.add_(-2 * (b_w + b_u))
        out, one = torch.empty_like(sums), sums.new_ones(())
        first, u_t = h, (-2 * u).T
        for sum_t, after in zip(sums, out, strict=True):
            sum_t.add_(h.to(dtype) @ u_t).sigmoid_()
            h = torch.sub(one, sum_t, alpha=2, out=after)
        ctx.save_for_backward(inputs, first, w, u, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, first, w, u, out = ctx.saved_tensors
        steps, rows, width = out.shape
        derivatives = torch.addcmul(out.new_ones(()), out, out, value=-1)  # 1 - h'^2
        d_states = torch.cat([torch.zeros_like(out[:1]), gradient])  # from the state before the first step on
        all_steps = list(zip(derivatives, d_states[1:], d_states[:-1], strict=True))
        for derivative_t, d_after, d_before in reversed(all_steps):
            d_before.add_(derivative_t.mul_(d_after).to(u.dtype) @ u)

        flat = derivatives.view(steps * rows, width)
        d_sums = cast_in_blocks(flat, u.dtype)
        states = torch.zeros(len(d_sums), width, dtype=u.dtype)
        states[:rows] = first
        states[rows : steps * rows] = out[:-1].view(-1, width)
        d_w, d_u, d_b = (d_sums.T @ inputs).to(out.dtype), (d_sums.T @ states).to(out.dtype), flat.sum(0)
        d_x = (d_sums @ w)[: steps * rows].to(out.dtype).view(steps, rows, -1)
        return d_x, d_states[0], d_w, d_u, d_b, d_b, None
