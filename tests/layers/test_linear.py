"""Narrow products: close to the wide ones, of few shapes, and off unless asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from seqkit.layers.linear import ROWS, Linear, linear, narrowed, products_in


@pytest.mark.parametrize("shape", [(1, 5), (3, 7, 5), (ROWS, 5), (ROWS + 1, 5), (0, 5)])
def test_narrow_products_are_the_wide_ones_rounded(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    x = torch.randn(shape, requires_grad=True)
    layer = Linear(5, 4)
    wanted = F.linear(x, layer.weight, layer.bias)
    slope = torch.randn_like(wanted)
    wide = torch.autograd.grad(wanted, [x, layer.weight, layer.bias], slope)
    with products_in(torch.bfloat16):
        found = layer(x)
        narrow = torch.autograd.grad(found, [x, layer.weight, layer.bias], slope)
    assert found.dtype == torch.float32
    assert_close(found, wanted, rtol=0.02, atol=0.05)
    for one, other in zip(narrow, wide, strict=True):
        # bfloat16 keeps eight bits: an error of a hundredth of the largest entry is rounding, ten times that a mistake.
        assert_close(one, other, rtol=0.02, atol=0.02 * max(1.0, float(other.abs().max()) if other.numel() else 1.0))


def test_outside_of_the_context_products_are_exact() -> None:
    x, weight = torch.randn(6, 5), torch.randn(4, 5)
    with products_in(torch.bfloat16), products_in(None):
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))
    assert torch.equal(linear(x, weight, None), F.linear(x, weight))


def test_float64_is_never_narrowed() -> None:
    x, weight = torch.randn(6, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    with products_in(torch.bfloat16):
        assert torch.equal(linear(x, weight, None), F.linear(x, weight))


@pytest.mark.parametrize("rows", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_rows_are_filled_up_with_zeros_to_few_sizes(rows: int) -> None:
    x = torch.randn(rows, 3)
    found = narrowed(x, torch.bfloat16)
    assert len(found) % ROWS == 0
    assert len(found) - rows < ROWS
    assert torch.equal(found[:rows], x.bfloat16())
    assert not found[rows:].any()
