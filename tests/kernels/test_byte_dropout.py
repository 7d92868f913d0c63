"""Dropout from random bytes: the mean is kept, all elements have one chance, and the gradient uses the same mask."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqkit.kernels import byte_dropout as kernel
from seqkit.kernels.byte_dropout import dropout

COUNT = 1 << 19


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
def test_rate_and_scale_are_what_was_asked_for(rate: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(COUNT), rate)
    share = float((out == 0).float().mean())
    assert share == pytest.approx(rate, abs=1 / 256 + 0.003)
    (kept,) = set(out[out != 0].tolist())
    assert kept == pytest.approx(1 / (1 - share), rel=0.02)


def check_places(rate: float) -> None:
    torch.manual_seed(0)
    mean = dropout(torch.ones(COUNT), rate).view(-1, 8).mean(0)
    torch.testing.assert_close(mean, torch.ones(8), rtol=0, atol=0.025)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_no_place_is_dropped_more_often_than_another(rate: float) -> None:
    """Eight elements share one random integer."""
    check_places(rate)


def test_it_is_noticed_when_the_sign_of_the_integers_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "INT64_MINIMUM", 0)
    with pytest.raises(AssertionError):
        check_places(0.1)


@pytest.mark.parametrize("threshold", range(1, 256, 17))
def test_the_expectation_is_exact_for_every_byte(threshold: int) -> None:
    """The scale fits the rounded rate: of 256 equally likely bytes, 256 - threshold are kept."""
    out = dropout(torch.ones(64), threshold / 256)
    scales = out[out != 0]
    assert torch.equal(scales, torch.full_like(scales, 256 / (256 - threshold)))


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@given(st.integers(0, 40), st.sampled_from(DTYPES))
def test_any_shape_and_type_come_back_as_they_were(count: int, dtype: torch.dtype) -> None:
    x = torch.ones(count, 3, dtype=dtype)
    out = dropout(x, 0.5)
    assert out.shape == x.shape
    assert out.dtype == dtype


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, requires_grad=True)
    out = dropout(x, 0.3)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal((gradient == 0), (out == 0))
    torch.testing.assert_close(gradient * x.detach(), out.detach())


def test_a_rate_of_zero_is_the_identity_and_draws_nothing() -> None:
    x, before = torch.randn(9), torch.get_rng_state()
    assert dropout(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tiny_rate_is_not_rounded_to_none() -> None:
    torch.manual_seed(0)
    assert (dropout(torch.ones(COUNT), 1e-6) == 0).any()


def test_the_seed_decides_the_mask() -> None:
    x = torch.ones(100)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)
    assert not torch.equal(first, second)
