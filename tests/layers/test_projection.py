"""A projection is a linear map that heeds the arithmetic which is set."""

from __future__ import annotations

import pytest
import torch

from seqkit.kernels.arithmetic import products_in
from seqkit.layers.projection import Projection


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_w_x_plus_b(bias: bool) -> None:
    module, x = Projection(5, 4, bias=bias), torch.randn(2, 3, 5)
    expected = torch.einsum("oi,nti->nto", module.weight, x) + (module.bias if bias else 0)
    torch.testing.assert_close(module(x), expected)


def test_its_products_are_narrowed_where_that_is_asked_for() -> None:
    module, x = Projection(5, 4), torch.randn(2, 3, 5)
    with torch.no_grad():
        wide = module(x)
        with products_in(torch.bfloat16):
            narrow = module(x)
    assert narrow.dtype == torch.float32
    assert 0 < float((narrow - wide).norm()) < 0.02 * float(wide.norm())
