"""A recurrent layer by the fastest kernel is torch's layer, whichever kernel that is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqkit.kernels.arithmetic import products_in
from seqkit.kernels.recurrence import FusedLayer, LayerState, recur

KINDS: list[type[FusedLayer]] = [nn.RNN, nn.GRU, nn.LSTM]
every_kind = pytest.mark.parametrize("kind", KINDS)
begun = pytest.mark.parametrize("begun", [False, True])


def case(kind: type[FusedLayer], *, begun: bool, steps: int = 6) -> tuple[FusedLayer, Tensor, LayerState | None]:
    """A layer, inputs (N, T, I), and a state or none."""
    torch.manual_seed(0)
    layer = kind(5, 8, batch_first=True)
    if not begun:
        return layer, torch.randn(3, steps, 5), None
    hidden, cell = torch.randn(2, 1, 3, 8)
    return layer, torch.randn(3, steps, 5), (hidden, cell) if kind is nn.LSTM else hidden


def parts(state: LayerState) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@every_kind
@begun
def test_it_is_the_layer(kind: type[FusedLayer], begun: bool) -> None:
    layer, x, before = case(kind, begun=begun)
    out, after = recur(layer, x, before)
    expected, end = layer(x, before)
    assert torch.equal(out, expected)
    assert all(map(torch.equal, parts(after), parts(end)))


@every_kind
@begun
@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_what_is_dropped_is_the_recurrent_matrix(
    kind: type[FusedLayer], begun: bool, products: torch.dtype | None
) -> None:
    """The layer with half of the matrix, whose gradients reach what was kept of it."""
    layer, x, before = case(kind, begun=begun)
    matrix = layer.get_parameter("weight_hh_l0")
    mask = (torch.rand_like(matrix) < 0.5).float()
    with products_in(products):
        out, after = recur(layer, x, before, drop=lambda weight: weight * mask)
        (gradient,) = torch.autograd.grad(out.sum(), matrix)
        with torch.no_grad():
            matrix.mul_(mask)
        expected, end = recur(layer, x, before)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts(after), parts(end), rtol=1e-5, atol=1e-6)
    assert not gradient[mask == 0].any()
    assert gradient[mask == 1].any()


@every_kind
@begun
def test_narrow_products_give_wide_outputs_that_are_near(kind: type[FusedLayer], begun: bool) -> None:
    layer, x, before = case(kind, begun=begun)
    with products_in(torch.bfloat16):
        out, after = recur(layer, x, before)
    expected, end = layer(x, before)
    assert {part.dtype for part in (out, *parts(after))} == {torch.float32}
    for narrow, wide in zip((out, *parts(after)), (expected, *parts(end)), strict=True):
        assert 0 < float((narrow - wide).detach().norm() / wide.detach().norm()) < 0.02


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_a_single_step_is_read_in_full_precision(kind: type[FusedLayer]) -> None:
    """There is nothing to gain: the narrow kernels are for many steps."""
    layer, x, before = case(kind, begun=True, steps=1)
    with products_in(torch.bfloat16):
        out, _ = recur(layer, x, before)
    assert torch.equal(out, layer(x, before)[0])
