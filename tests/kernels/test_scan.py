"""The scan of minGRU is its recurrence, step after step or all at once, with its gradient."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqkit.kernels.scan import gated_scan
from seqkit.layers import cells

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def spelt_out(gates: Tensor, candidates: Tensor, before: Tensor) -> Tensor:
    """The states by the cell's own equation, the maps of its input left out."""
    width = before.shape[1]
    one, nothing = torch.eye(width, dtype=before.dtype), torch.zeros(width, dtype=before.dtype)
    state, states = before, []
    for gate, candidate in zip(gates.unbind(1), candidates.unbind(1), strict=True):
        x = torch.cat([gate, candidate], dim=1)
        maps = (torch.cat([one, one * 0], 1), nothing), (torch.cat([one * 0, one], 1), nothing)
        state = cells.min_gru(x, state, gate=maps[0], candidate=maps[1])
        states.append(state)
    return torch.stack(states, dim=1)


def inputs(rows: int, steps: int, width: int, *, scale: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, steps, width), (rows, steps, width), (rows, width))
    gates, candidates, before = (
        (scale * torch.randn(shape, dtype=torch.float64, generator=generator)).requires_grad_() for shape in shapes
    )
    return gates, candidates, before


@pytest.mark.parametrize("log_space", [False, True])
@given(rows=st.integers(1, 3), steps=st.integers(1, 9), width=st.integers(1, 4), scale=st.sampled_from([0.1, 1.0, 9.0]))
def test_states_and_gradients_are_those_of_the_cell(
    log_space: bool, rows: int, steps: int, width: int, scale: float
) -> None:
    read = inputs(rows, steps, width, scale=scale)
    expected, states = spelt_out(*read), gated_scan(*read, log_space=log_space)
    close(states, expected)
    weights = torch.randn_like(expected)
    close(
        torch.autograd.grad((states * weights).sum(), read),
        torch.autograd.grad((expected * weights).sum(), read),
        rtol=1e-7,
        atol=1e-7,
    )


def test_states_stay_exact_where_every_gate_is_open_or_shut() -> None:
    """A long sequence in float32, in log space as well: products of numbers near 0 do not vanish."""
    gates, candidates, before = (part.detach().float() for part in inputs(2, 200, 3, scale=20.0))
    exact = spelt_out(gates.double(), candidates.double(), before.double())
    torch.testing.assert_close(
        gated_scan(gates, candidates, before, log_space=False).double(), exact, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        gated_scan(gates, candidates, before, log_space=True).double(), exact, rtol=2e-3, atol=2e-3
    )


def test_narrow_inputs_are_summed_up_in_float32() -> None:
    gates, candidates, before = (part.detach().bfloat16() for part in inputs(2, 50, 3, scale=1.0))
    states = gated_scan(gates, candidates, before)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, gated_scan(gates.float(), candidates.float(), before.float()))
