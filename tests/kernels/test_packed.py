"""A linear map whose weights are laid out in advance is that map, whatever its size and the shape of what it reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seqkit.kernels.packed import PREPACKED_ENTRIES, prepacked_linear

SMALL, LARGE = (7, 5), (700, 500)  # entries of a matrix below and above the bound from which a layout pays
SHAPES = [(), (1,), (3,), (2, 3), (70,), (3, 50)]


def weights(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(size) * size[1] ** -0.5, torch.randn(size[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("few_rows", [True, False])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_it_is_the_linear_map(size: tuple[int, int], few_rows: bool, shape: tuple[int, ...]) -> None:
    assert SMALL[0] * SMALL[1] < PREPACKED_ENTRIES < LARGE[0] * LARGE[1]
    weight, bias = weights(size)
    x = torch.randn(*shape, size[1])
    with torch.no_grad():
        out = prepacked_linear(weight, bias, few_rows=few_rows)(x)
    torch.testing.assert_close(out, F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_narrow_products_come_back_wide_and_near(size: tuple[int, int], shape: tuple[int, ...]) -> None:
    weight, bias = weights(size)
    x = torch.randn(*shape, size[1])
    with torch.no_grad():
        out, expected = prepacked_linear(weight, bias, products=torch.bfloat16)(x), F.linear(x, weight, bias)
    assert out.dtype == torch.float32
    assert 0 < float((out - expected).norm()) < 0.02 * float(expected.norm())


@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_weights_get_no_gradient(products: torch.dtype | None) -> None:
    weight, bias = (part.requires_grad_() for part in weights(SMALL))
    assert not prepacked_linear(weight, bias, products=products)(torch.randn(3, SMALL[1])).requires_grad


def test_double_precision_stays_double() -> None:
    weight, bias = (part.double() for part in weights(LARGE))
    x = torch.randn(3, LARGE[1], dtype=torch.float64)
    assert torch.equal(prepacked_linear(weight, bias)(x), F.linear(x, weight, bias))
