"""Sums and counts add up over batches; means are made at the end."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqkit.loss import Tally, cross_entropy
from tests.support.loss import problem


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
