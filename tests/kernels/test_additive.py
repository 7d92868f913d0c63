"""Additive attention scores are their plain equation, gradients and all, however large what goes in."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.kernels.additive import additive_scores

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
small = st.integers(1, 4)


def plain(queries: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
    """The equation with a tangent for each pair."""
    return torch.tanh(queries[:, :, None] + keys[:, None]) @ vector


def inputs(batch: int, queries: int, keys: int, size: int, *, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = ((batch, queries, size), (batch, keys, size), (size,))
    q, k, v = ((scale * torch.randn(shape, dtype=torch.float64)).requires_grad_() for shape in shapes)
    return q, k, v


@given(batch=small, queries=small, keys=small, size=small)
@settings(max_examples=30)
def test_scores_and_all_gradients_are_those_of_the_equation(batch: int, queries: int, keys: int, size: int) -> None:
    read = inputs(batch, queries, keys, size)
    scores, expected = additive_scores(*read), plain(*read)
    close(scores, expected)
    weights = torch.randn_like(scores)
    found, wanted = (torch.autograd.grad((out.sin() * weights).sum(), read) for out in (scores, expected))
    close(found, wanted)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("scale", [1e-6, 10.0, 40.0, 1e4])
def test_no_size_of_the_inputs_overflows(scale: float, sign: float) -> None:
    """In float32, where exp(89) is infinite; queries and keys have one sign, so that their sums are large too."""
    q, k, v = (part.detach().float() for part in inputs(2, 3, 4, 5))
    read = [(sign * scale * q.abs()).requires_grad_(), (sign * scale * k.abs()).requires_grad_(), v.requires_grad_()]
    scores = additive_scores(read[0], read[1], read[2])
    torch.testing.assert_close(scores, plain(read[0], read[1], read[2]), rtol=1e-4, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(scores.sum(), read))


def test_the_backward_pass_leaves_what_it_read_as_it_was() -> None:
    read = inputs(2, 3, 4, 5)
    loss = additive_scores(*read).square().sum()
    once = torch.autograd.grad(loss, read, retain_graph=True)
    assert all(map(torch.equal, once, torch.autograd.grad(loss, read)))


def test_a_huge_query_and_a_huge_key_of_the_other_sign_make_no_nan() -> None:
    read = [torch.full((1, 1, 3), 1e3), torch.full((1, 1, 3), -1e3), torch.ones(3)]
    q, k, v = (part.requires_grad_() for part in read)
    scores = additive_scores(q, k, v)
    assert -3 <= float(scores.detach()) <= 3
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(scores.sum(), (q, k, v)))
