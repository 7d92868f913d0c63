"""Dropout: the mean is kept, every element has the same chance, and the gradient uses the same mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seqkit.kernels.arithmetic import Arithmetic, calculating
from seqkit.layers.dropout import Dropout, LockedDropout

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def test_only_training_drops() -> None:
    x, module = torch.ones(100), Dropout(0.5)
    assert module.eval()(x) is x
    assert (module.train()(x) == 0).any()


def test_a_locked_mask_holds_for_all_steps_and_is_another_for_each_row_and_feature() -> None:
    torch.manual_seed(0)
    out = LockedDropout(0.5)(torch.ones(40, 7, 50))
    assert torch.equal(out, out[:, :1].expand_as(out))
    mask = out[:, 0]
    assert len(mask.unique(dim=0)) == 40
    assert len(mask.unique(dim=1).T) == 50


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_locked_dropout_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    out = LockedDropout(rate)(torch.ones(500, 2, 500))
    assert float((out == 0).float().mean()) == pytest.approx(rate, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.02)


@given(st.integers(0, 4), st.integers(0, 4), st.sampled_from(DTYPES))
def test_locked_dropout_takes_any_number_of_rows_and_steps(rows: int, steps: int, dtype: torch.dtype) -> None:
    x = torch.ones(rows, steps, 3, dtype=dtype)
    out = LockedDropout(0.5)(x)
    assert (out.shape, out.dtype) == (x.shape, dtype)


def test_the_gradient_of_locked_dropout_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, 30, requires_grad=True)
    out = LockedDropout(0.3)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient * x.detach(), out.detach())


def test_only_training_locks_and_a_rate_of_zero_draws_nothing() -> None:
    x, before = torch.ones(3, 4, 5), torch.get_rng_state()
    assert LockedDropout(0.5).eval()(x) is x
    assert LockedDropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [Dropout, LockedDropout])
def test_without_byte_dropout_it_is_torch_s_own(kind: type[Dropout]) -> None:
    module, x = kind(0.3), torch.randn(6, 5, 40)
    torch.manual_seed(0)
    with calculating(Arithmetic(byte_dropout=False)):
        out = module(x)
    torch.manual_seed(0)
    expected = F.dropout(x, 0.3) if kind is Dropout else x * F.dropout(torch.ones(6, 1, 40), 0.3)
    assert torch.equal(out, expected)
