"""The chunked loss is torch's smoothed cross-entropy, gradients and all, however it is cut."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.kernels import chunked_cross_entropy
from seqkit.kernels.chunked_cross_entropy import cross_entropy_sums, default_chunk

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
narrow = partial(cross_entropy_sums, smoothing=0.1, products=torch.bfloat16)


def inputs(rows: int, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows (R, D), an output layer, and the targets."""
    torch.manual_seed(0)
    shapes = ((rows, 4), (7, 4), (7,))
    hidden, weight, bias = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)
    return hidden, weight, bias, torch.randint(0, 7, (rows,))


@given(chunk=st.integers(1, 40), smoothing=st.sampled_from([0.0, 0.1, 0.5]), scale=st.floats(-3, 3))
@settings(max_examples=40)
def test_any_chunk_size_gives_the_gradients_of_whole_logits(chunk: int, smoothing: float, scale: float) -> None:
    hidden, weight, bias, targets = inputs(15)
    logits = F.linear(hidden, weight, bias)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    objective, nll = cross_entropy_sums(hidden, weight, bias, targets, smoothing=smoothing, chunk=chunk, products=None)
    close((objective, nll), (expected, F.cross_entropy(logits, targets, reduction="sum").detach()))
    read = (hidden, weight, bias)
    close(torch.autograd.grad(objective * scale, read), torch.autograd.grad(expected * scale, read))


def test_the_gradient_is_that_of_finite_differences() -> None:
    hidden, weight, bias, targets = inputs(4)

    def objective(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return cross_entropy_sums(hidden, weight, bias, targets, smoothing=0.1, chunk=3, products=None)[0]

    assert torch.autograd.gradcheck(objective, (hidden, weight, bias))


@pytest.mark.parametrize("products", [None, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_without_gradients_the_sums_are_the_same(chunk: int, products: torch.dtype | None) -> None:
    read = inputs(15, dtype=torch.float32)
    expected = cross_entropy_sums(*read, smoothing=0.1, chunk=chunk, products=products)
    with torch.no_grad():
        sums = cross_entropy_sums(*read, smoothing=0.1, chunk=chunk, products=products)
    torch.testing.assert_close(sums, expected, rtol=1e-5 if products is None else 0.02, atol=0)
    assert not sums[0].requires_grad


def test_the_plain_loss_does_not_carry_a_gradient_of_its_own() -> None:
    assert not cross_entropy_sums(*inputs(3), smoothing=0.1, chunk=2, products=None)[1].requires_grad


def test_narrow_products_keep_wide_sums() -> None:
    """Two thousand tokens: in bfloat16, a sum would stop growing long before."""
    read = inputs(2000, dtype=torch.float32)
    expected = cross_entropy_sums(*read, smoothing=0.1, chunk=256, products=None)
    sums = narrow(*read, chunk=256)
    assert sums[0].dtype == torch.float32
    torch.testing.assert_close(sums[1], expected[1], rtol=0.01, atol=0)
    wide, found = (torch.autograd.grad(objective, read[:3]) for objective, _ in (expected, sums))
    for one, other in zip(found, wide, strict=True):
        assert 0 < float((one - other).norm()) < 0.02 * float(other.norm())


@pytest.mark.parametrize("entries", [1, 200, 1 << 24])
@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
def test_the_narrow_way_is_the_same_however_it_is_cut(
    entries: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formulas of the narrow way, in an arithmetic in which they are exact."""
    monkeypatch.setattr(chunked_cross_entropy, "GRADIENT_ENTRIES", entries)
    read = inputs(110, dtype=torch.float32)
    plain, exact = (
        cross_entropy_sums(*read, smoothing=0.1, chunk=chunk, products=products) for products in (None, torch.float32)
    )
    torch.testing.assert_close(exact, plain, rtol=1e-5, atol=0)
    expected, found = (torch.autograd.grad(objective, read[:3]) for objective, _ in (plain, exact))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_short_vocabulary_has_longer_chunks() -> None:
    assert default_chunk(torch.empty(100, 1)) > default_chunk(torch.empty(100_000, 1)) >= 256
