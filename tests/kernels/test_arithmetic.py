"""The arithmetic of kernels: it holds within the body that sets it, and is only for what it can narrow."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seqkit.kernels.arithmetic import (
    BLOCK_ROWS,
    Arithmetic,
    calculating,
    cast_in_blocks,
    current_arithmetic,
    product_dtype,
    products_in,
)
from seqkit.kernels.linear import linear


def test_without_a_wish_products_are_torch_s_own() -> None:
    x, weight, bias = torch.randn(3, 5), torch.randn(4, 5), torch.randn(4)
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    with products_in(torch.bfloat16), products_in(None):
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))


def test_an_arithmetic_ends_with_its_body_even_by_an_error() -> None:
    x, weight = torch.randn(3, 5), torch.randn(4, 5)
    with pytest.raises(ZeroDivisionError), products_in(torch.bfloat16):
        _ = 1 / 0
    assert torch.equal(linear(x, weight, None), F.linear(x, weight))


def test_products_are_set_and_the_rest_stays() -> None:
    with calculating(Arithmetic(byte_dropout=False)):
        with products_in(torch.bfloat16):
            assert current_arithmetic() == Arithmetic(torch.bfloat16, byte_dropout=False)
        assert current_arithmetic() == Arithmetic(None, byte_dropout=False)
    assert current_arithmetic() == Arithmetic()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_only_products_of_single_precision_are_narrowed(dtype: torch.dtype) -> None:
    with products_in(torch.bfloat16):
        assert product_dtype(torch.ones(1)) == torch.bfloat16
        assert product_dtype(torch.ones(1, dtype=dtype)) is None


@pytest.mark.parametrize("count", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_rows_are_filled_up_with_zeros_to_whole_blocks(count: int) -> None:
    rows = torch.randn(count, 3)
    cast = cast_in_blocks(rows, torch.bfloat16)
    assert len(cast) % BLOCK_ROWS == 0
    assert len(cast) - count < BLOCK_ROWS
    assert torch.equal(cast[:count], rows.bfloat16())
    assert not cast[count:].any()
