"""The sums of R-Drop are half of its equation, with its gradients, however they are cut."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.kernels.agreement import agreement_sums

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def inputs(rows: int, *, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of two passes (2, R, D), an output layer, and the targets."""
    torch.manual_seed(0)
    shapes = ((2, rows, 4), (7, 4), (7,))
    hidden, weight, bias = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)
    return hidden, weight, bias, torch.randint(0, 7, (rows,))


def equation(
    rows: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, divergence_weight: float, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Half of equation 4 of the paper, with whole logits; and the mean negative log-likelihood."""
    logits = F.linear(rows, weight, bias)
    p, q = logits.log_softmax(-1)
    right = sum(F.cross_entropy(x, targets, reduction="sum", label_smoothing=smoothing) for x in logits)
    divergences = F.kl_div(q, p, reduction="sum", log_target=True) + F.kl_div(p, q, reduction="sum", log_target=True)
    nll = torch.stack([F.cross_entropy(x, targets, reduction="sum") for x in logits]).sum() / 2
    return (right + divergence_weight * divergences / 2) / 2, nll


@given(chunk=st.integers(1, 12), smoothing=st.sampled_from([0.0, 0.1]), weight=st.floats(0, 9), rows=st.integers(1, 9))
@settings(max_examples=40)
def test_value_and_gradients_are_those_of_the_equation(chunk: int, smoothing: float, weight: float, rows: int) -> None:
    hidden, w, b, targets = inputs(rows)
    options = {"divergence_weight": weight, "smoothing": smoothing}
    objective, nll = agreement_sums(hidden, w, b, targets, chunk=chunk, products=None, **options)
    expected, expected_nll = equation(hidden, w, b, targets, **options)
    close((objective, nll), (expected, expected_nll.detach()))
    close(torch.autograd.grad(-2 * objective, (hidden, w, b)), torch.autograd.grad(-2 * expected, (hidden, w, b)))


def test_the_plain_loss_carries_no_gradient() -> None:
    _, nll = agreement_sums(*inputs(3), divergence_weight=1.0, smoothing=0.1, chunk=2, products=None)
    assert not nll.requires_grad


def test_narrow_products_come_near() -> None:
    hidden, w, b, targets = inputs(600, dtype=torch.float32)
    results = []
    for products in (None, torch.bfloat16):
        objective, _ = agreement_sums(
            hidden, w, b, targets, divergence_weight=5.0, smoothing=0.1, chunk=100, products=products
        )
        results.append((objective, *torch.autograd.grad(objective, (hidden, w, b))))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0.01, atol=0)
    for wide, narrow in zip(*(result[1:] for result in results), strict=True):
        assert 0 < float((narrow - wide).norm() / wide.norm()) < 0.02
