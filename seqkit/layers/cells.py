"""The recurrent update equations, as the reference that the fused kernels are tested against.

One step reads an input x (N, I) and a state, with the weight layout of torch's own cells: the gates stacked in the
order given at each function, W (G*D, I) for the input and U (G*D, D) for the state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["gru", "lstm", "min_gru", "rnn"]


def rnn(x: Tensor, h: Tensor, *, w: Tensor, u: Tensor, b_w: Tensor, b_u: Tensor) -> Tensor:
    """h' = tanh(W x + U h) (Elman, 1990): (N, D)."""
    return torch.tanh(F.linear(x, w, b_w) + F.linear(h, u, b_u))


def gru(x: Tensor, h: Tensor, *, w: Tensor, u: Tensor, b_w: Tensor, b_u: Tensor) -> Tensor:
    """r, z = sigmoid(...), n = tanh(W x + r (U h)), h' = (1 - z) n + z h (Cho et al., 2014): gates r, z, n; (N, D)."""
    input_r, input_z, input_n = F.linear(x, w, b_w).chunk(3, dim=-1)
    state_r, state_z, state_n = F.linear(h, u, b_u).chunk(3, dim=-1)
    reset = torch.sigmoid(input_r + state_r)
    update = torch.sigmoid(input_z + state_z)
    new = torch.tanh(input_n + reset * state_n)
    return (1 - update) * new + update * h


def lstm(
    x: Tensor, state: tuple[Tensor, Tensor], *, w: Tensor, u: Tensor, b_w: Tensor, b_u: Tensor
) -> tuple[Tensor, Tensor]:
    """c' = f c + i g, h' = o tanh(c') (Hochreiter and Schmidhuber, 1997; Gers et al., 2000): gates i, f, g, o."""
    h, c = state
    i, f, g, o = (F.linear(x, w, b_w) + F.linear(h, u, b_u)).chunk(4, dim=-1)
    cell = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def min_gru(x: Tensor, h: Tensor, *, gate: tuple[Tensor, Tensor], candidate: tuple[Tensor, Tensor]) -> Tensor:
    """z = sigmoid(W_z x), h' = (1 - z) h + z g(W_v x) (Feng et al., 2024): no gate reads the state; (N, D).

    g(v) = v + 1/2 where v >= 0 and sigmoid(v) elsewhere is positive. `gate` and `candidate` are weight (D, I) and bias
    (D,) each.
    """
    update, value = torch.sigmoid(F.linear(x, *gate)), F.linear(x, *candidate)
    return (1 - update) * h + update * torch.where(value >= 0, value + 0.5, torch.sigmoid(value))
