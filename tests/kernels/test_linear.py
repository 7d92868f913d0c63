"""Linear maps in a narrower arithmetic: the same map within its rounding, and only within the body that asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.arithmetic import products_in
from seqkit.kernels.linear import feed_forward, joint_linear, linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (1, 1, 1, 5)])
def test_narrow_products_are_the_wide_ones_within_rounding(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(5, 4, bias=bias), torch.randn(*shape, requires_grad=True)
    inputs = (x, *module.parameters())
    wide = linear(x, module.weight, module.bias)
    assert torch.equal(wide, module(x))
    expected = torch.autograd.grad(wide.tanh().sum(), inputs)
    with products_in(torch.bfloat16):
        narrow = linear(x, module.weight, module.bias)
    found = torch.autograd.grad(narrow.tanh().sum(), inputs)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0.02, atol=0.05)
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.1)
    assert not torch.equal(narrow, wide)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 70, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_two_maps_with_an_activation_between_are_that(
    activation: Literal["relu", "gelu"], shape: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    """By the same formulas in both arithmetics; in float32 they are exact."""
    torch.manual_seed(0)
    inner, outer, x = nn.Linear(5, 16), nn.Linear(16, 5), torch.randn(*shape, requires_grad=True)
    inputs = (x, *inner.parameters(), *outer.parameters())
    wide = feed_forward(x, inner, outer, activation)
    assert torch.equal(wide, outer(F.relu(inner(x)) if activation == "relu" else F.gelu(inner(x))))
    weights = torch.randn_like(wide)
    expected = torch.autograd.grad((wide * weights).sum(), inputs)
    with products_in(dtype):
        narrow = feed_forward(x, inner, outer, activation)
    found = torch.autograd.grad((narrow * weights).sum(), inputs)
    assert narrow.dtype == torch.float32
    for one, other in zip((narrow, *found), (wide, *expected), strict=True):
        assert (one - other).norm() <= tolerance * other.norm()
    assert dtype == torch.float32 or not torch.equal(narrow, wide)


@pytest.mark.parametrize("shape", [(3, 5), (2, 70, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-6), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_maps_made_together_are_the_maps(shape: tuple[int, ...], dtype: torch.dtype | None, tolerance: float) -> None:
    """Also where one has no bias, they differ in size, and one is not used."""
    torch.manual_seed(0)
    maps, x = [nn.Linear(5, 4), nn.Linear(5, 3, bias=False), nn.Linear(5, 6), nn.Linear(5, 2)], torch.randn(*shape)
    x.requires_grad_()
    for each in maps:
        if each.bias is not None:
            torch.nn.init.normal_(each.bias)
    apart = [each(x) for each in maps]
    weights = [torch.randn_like(each) for each in apart]
    inputs = (x, *(parameter for each in maps[:3] for parameter in each.parameters()))

    def slopes(made: Sequence[Tensor]) -> Sequence[Tensor]:
        losses = [(one * weight).sum() for one, weight in zip(made[:3], weights, strict=False)]
        return torch.autograd.grad(torch.stack(losses).sum(), inputs)

    with products_in(dtype):
        together = joint_linear(x, maps)
    for one, other in zip((*together, *slopes(together)), (*apart, *slopes(apart)), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= tolerance * other.norm()
    assert dtype != torch.bfloat16 or not torch.equal(together[0], apart[0])
