"""The loss against torch's own, in sums and counts; means are made at the end, once."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.kernels import chunked_cross_entropy
from seqkit.loss import Tally, cross_entropy
from tests.support.loss import problem

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_it_is_torch_s_smoothed_cross_entropy(smoothing: float) -> None:
    hidden, output, targets = problem()
    tally = cross_entropy(hidden, output, targets, smoothing=smoothing)
    logits, wanted = output(hidden)[targets.mask], targets.ids[targets.mask]
    close(tally.objective, F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing))
    close(tally.nll, F.cross_entropy(logits, wanted, reduction="sum"))
    assert int(tally.tokens) == int(targets.mask.sum())


@given(chunk=st.integers(1, 40), smoothing=st.sampled_from([0.0, 0.1, 0.5]), scale=st.floats(-3, 3))
@settings(max_examples=40)
def test_any_chunk_size_gives_the_gradients_of_whole_logits(chunk: int, smoothing: float, scale: float) -> None:
    hidden, output, targets = problem()
    inputs = (hidden, output.weight, output.bias)
    logits, wanted = output(hidden)[targets.mask], targets.ids[targets.mask]
    whole = F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing)
    tally = cross_entropy(hidden, output, targets, smoothing=smoothing, chunk=chunk)
    close(
        torch.autograd.grad(tally.objective * scale, inputs),
        torch.autograd.grad(whole * scale, inputs),
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    hidden, output, targets = problem(rows=2, steps=2, real=1.0)

    def objective(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return cross_entropy(hidden, _Output(weight, bias), targets, smoothing=0.1, chunk=3).objective

    assert torch.autograd.gradcheck(objective, (hidden, output.weight, output.bias))


class _Output:
    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_without_gradients_the_sums_are_the_same(chunk: int) -> None:
    hidden, output, targets = problem()
    expected = cross_entropy(hidden, output, targets, smoothing=0.1)
    with torch.no_grad():
        found = cross_entropy(hidden, output, targets, smoothing=0.1, chunk=chunk)
    close((found.objective, found.nll, found.tokens), (expected.objective, expected.nll, expected.tokens))
    assert not found.objective.requires_grad


def test_what_is_masked_counts_nowhere() -> None:
    hidden, output, targets = problem()
    other = Padded(torch.where(targets.mask, targets.ids, 6 - targets.ids), targets.mask)
    with torch.no_grad():
        moved = torch.where(targets.mask[..., None], hidden, hidden + 100)
    one, two = cross_entropy(hidden, output, targets), cross_entropy(moved.requires_grad_(), output, other)
    close((one.objective, one.nll), (two.objective, two.nll))
    (gradient,) = torch.autograd.grad(one.objective, hidden)
    assert not gradient[~targets.mask].any()


@pytest.mark.parametrize("gradients", [True, False])
def test_no_targets_at_all_add_zero_and_no_nan(gradients: bool) -> None:
    hidden, output, targets = problem(real=0.0)
    with torch.set_grad_enabled(gradients):
        tally = cross_entropy(hidden, output, targets, smoothing=0.1)
    assert [float(part.detach()) for part in (tally.objective, tally.nll, tally.tokens)] == [0.0, 0.0, 0.0]
    assert tally.loss == 0.0
    if gradients:
        found = torch.autograd.grad(tally.objective, (hidden, output.weight, output.bias))
        assert all(not gradient.any() for gradient in found)


def test_the_plain_loss_does_not_carry_a_gradient_of_its_own() -> None:
    hidden, output, targets = problem()
    assert not cross_entropy(hidden, output, targets, smoothing=0.1).nll.requires_grad


def test_narrow_products_keep_wide_sums() -> None:
    """Two thousand tokens: in bfloat16, a sum would stop growing long before."""
    hidden, output, targets = problem(rows=40, steps=50, dtype=torch.float32, real=1.0)
    wide = cross_entropy(hidden, output, targets, smoothing=0.1)
    narrow = cross_entropy(hidden, output, targets, smoothing=0.1, products=torch.bfloat16)
    assert narrow.objective.dtype == torch.float32
    torch.testing.assert_close(narrow.nll, wide.nll, rtol=0.01, atol=0)
    inputs = (hidden, output.weight, output.bias)
    expected, found = (torch.autograd.grad(tally.objective, inputs) for tally in (wide, narrow))
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) < 0.02 * float(other.norm())


@pytest.mark.parametrize("held", [1, 200, 1 << 24])
@pytest.mark.parametrize("chunk", [1, 7, 64, 500])
def test_the_narrow_way_is_the_same_however_it_is_cut(held: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formulas of the narrow way, in an arithmetic in which they are exact."""
    monkeypatch.setattr(chunked_cross_entropy, "GRADIENT_ENTRIES", held)
    hidden, output, targets = problem(rows=9, steps=20, dtype=torch.float32)
    inputs = (hidden, output.weight, output.bias)
    plain, narrow = (
        cross_entropy(hidden, output, targets, smoothing=0.1, chunk=chunk, products=products)
        for products in (None, torch.float32)
    )
    torch.testing.assert_close(narrow.objective, plain.objective, rtol=1e-5, atol=0)
    torch.testing.assert_close(narrow.nll, plain.nll, rtol=1e-5, atol=0)
    expected, found = (torch.autograd.grad(tally.objective, inputs) for tally in (plain, narrow))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), min_size=1, max_size=8), st.integers(1, 8))
def test_perplexity_does_not_depend_on_how_sums_were_batched(parts: list[tuple[float, int]], cut: int) -> None:
    tallies = [Tally(*torch.tensor([nll, nll, count], dtype=torch.float64)) for nll, count in parts]
    zero = Tally(*torch.zeros(3, dtype=torch.float64))
    left, right = sum(tallies[:cut], zero), sum(tallies[cut:], zero)
    mean = math.fsum(nll for nll, _ in parts) / sum(count for _, count in parts)
    assert (left + right).loss == pytest.approx(mean)
    assert (left + right).perplexity == pytest.approx(math.exp(mean))
    assert sum(tallies, zero).loss == pytest.approx((left + right).loss)


def test_a_hopeless_loss_has_an_infinite_perplexity() -> None:
    assert Tally(*torch.tensor([1e6, 1e6, 1.0])).perplexity == math.inf


def test_detached_sums_are_cut_from_the_graph() -> None:
    hidden, output, targets = problem()
    tally = cross_entropy(hidden, output, targets)
    assert tally.objective.requires_grad
    assert not tally.detach().objective.requires_grad
