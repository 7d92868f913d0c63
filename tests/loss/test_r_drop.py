"""R-Drop against its formula written out, and its gradient against torch's own."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers.embedding import OutputLayer
from seqkit.loss import cross_entropy, r_drop_cross_entropy
from tests.support import loss as loss_toys

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
problem = partial(loss_toys.problem, readings=2)


def formula(hidden: Tensor, output: OutputLayer, targets: Padded, *, weight: float, smoothing: float) -> Tensor:
    """Half of equation 4 of the paper, with whole logits."""
    p, q = (output(reading)[targets.mask].log_softmax(-1) for reading in hidden.chunk(2))
    wanted = targets.ids[targets.mask]
    right = sum(F.cross_entropy(x, wanted, reduction="sum", label_smoothing=smoothing) for x in (p, q))
    divergences = F.kl_div(q, p, reduction="sum", log_target=True) + F.kl_div(p, q, reduction="sum", log_target=True)
    return (right + weight * divergences / 2) / 2


@given(chunk=st.integers(1, 20), smoothing=st.sampled_from([0.0, 0.1]), weight=st.floats(0, 9), scale=st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_value_and_gradients_are_those_of_the_formula(
    chunk: int, smoothing: float, weight: float, scale: float
) -> None:
    hidden, output, targets = problem()
    inputs = (hidden, output.weight, output.bias)
    tally = r_drop_cross_entropy(hidden, output, targets, weight=weight, smoothing=smoothing, chunk=chunk)
    expected = formula(hidden, output, targets, weight=weight, smoothing=smoothing)
    close(tally.objective, expected)
    close(torch.autograd.grad(tally.objective * scale, inputs), torch.autograd.grad(expected * scale, inputs))


def test_two_equal_readings_lose_nothing_by_agreeing() -> None:
    hidden, output, targets = problem()
    once = hidden.detach()[:3].requires_grad_()
    plain = cross_entropy(once, output, targets, smoothing=0.1)
    tally = r_drop_cross_entropy(torch.cat([once, once]), output, targets, weight=5.0, smoothing=0.1)
    close((tally.objective, tally.nll, tally.tokens), (plain.objective, plain.nll, plain.tokens))
    close(torch.autograd.grad(tally.objective, once), torch.autograd.grad(plain.objective, once))


def test_the_reported_loss_is_the_plain_one_of_both_readings() -> None:
    hidden, output, targets = problem()
    tally = r_drop_cross_entropy(hidden, output, targets, weight=5.0, smoothing=0.1)
    parts = [cross_entropy(reading, output, targets).nll for reading in hidden.chunk(2)]
    close(tally.nll, (parts[0] + parts[1]).detach() / 2)
    assert not tally.nll.requires_grad


@pytest.mark.parametrize("real", [0.0, 0.6])
def test_what_is_masked_counts_nowhere(real: float) -> None:
    hidden, output, targets = problem(real=real)
    other = Padded(torch.where(targets.mask, targets.ids, 6 - targets.ids), targets.mask)
    one = r_drop_cross_entropy(hidden, output, targets, weight=2.0)
    two = r_drop_cross_entropy(hidden, output, other, weight=2.0)
    close(one.objective, two.objective)
    (gradient,) = torch.autograd.grad(one.objective, hidden)
    assert not gradient[~targets.mask.repeat(2, 1)].any()
    assert int(one.tokens) == int(targets.mask.sum())


def test_products_are_narrowed_where_that_is_wanted() -> None:
    hidden, output, targets = problem(rows=9, steps=20, dtype=torch.float32)
    wide, narrow = (
        r_drop_cross_entropy(hidden, output, targets, weight=5.0, products=dtype).objective
        for dtype in (None, torch.bfloat16)
    )
    assert narrow != wide
    torch.testing.assert_close(narrow, wide, rtol=0.01, atol=0)
