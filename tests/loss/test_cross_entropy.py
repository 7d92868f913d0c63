"""The loss against torch's own, in sums and counts; means are made at the end, once."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from seqkit.batch import Padded
from seqkit.loss import cross_entropy
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


def test_products_are_narrowed_where_that_is_wanted() -> None:
    hidden, output, targets = problem(rows=9, steps=20, dtype=torch.float32)
    wide, narrow = (cross_entropy(hidden, output, targets, products=dtype).nll for dtype in (None, torch.bfloat16))
    assert narrow != wide
    torch.testing.assert_close(narrow, wide, rtol=0.01, atol=0)
