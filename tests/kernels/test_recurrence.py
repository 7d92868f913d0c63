"""The narrow GRU and RNN are torch's, gradients and all, but for the arithmetic of their products."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seqkit.kernels.arithmetic import BLOCK_ROWS
from seqkit.kernels.gru import narrow_gru
from seqkit.kernels.rnn import narrow_rnn

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
small = st.integers(1, 5)
Layer = nn.GRU | nn.RNN
both = pytest.mark.parametrize("kind", [nn.GRU, nn.RNN])


def narrow(layer: Layer, x: Tensor, before: Tensor, dtype: torch.dtype) -> Tensor:
    run = narrow_gru if isinstance(layer, nn.GRU) else narrow_rnn
    return run(x, before, [weight.to(x.dtype) for weight in layer.all_weights[0]], dtype=dtype)


def layer_and_inputs(kind: type[Layer], rows: int, steps: int, inputs: int, width: int) -> tuple[Layer, Tensor, Tensor]:
    torch.manual_seed(0)
    layer = kind(inputs, width, batch_first=True).double()
    x = torch.randn(rows, steps, inputs, dtype=torch.float64, requires_grad=True)
    return layer, x, torch.randn(rows, width, dtype=torch.float64, requires_grad=True)


def agree(layer: Layer, x: Tensor, before: Tensor) -> None:
    expected, end = layer(x, before[None])
    out = narrow(layer, x, before, x.dtype)
    close(out, expected)
    close(out[:, -1], end[0])
    weights = torch.randn_like(out)
    learnt = [x, before, *layer.parameters()]
    wanted, found = (torch.autograd.grad((y.sin() * weights).sum(), learnt) for y in (expected, out))
    close(found, wanted)


@given(rows=small, steps=small, inputs=small, width=small)
@settings(max_examples=40)
@both
def test_outputs_and_all_gradients_are_those_of_torch(
    kind: type[Layer], rows: int, steps: int, inputs: int, width: int
) -> None:
    agree(*layer_and_inputs(kind, rows, steps, inputs, width))


@pytest.mark.parametrize("rows", [BLOCK_ROWS // 4, BLOCK_ROWS // 4 + 1])
@both
def test_rows_that_fill_a_product_exactly_need_no_filling(kind: type[Layer], rows: int) -> None:
    agree(*layer_and_inputs(kind, rows, 4, 3, 2))


@both
def test_saturated_gates_stay_finite(kind: type[Layer]) -> None:
    layer, x, before = layer_and_inputs(kind, 3, 4, 2, 5)
    with torch.no_grad():
        x.mul_(1e4)
    agree(layer, x, before)


@both
def test_the_backward_pass_leaves_what_it_read_as_it_was(kind: type[Layer]) -> None:
    layer, x, before = layer_and_inputs(kind, 3, 4, 2, 5)
    out = narrow(layer, x, before, x.dtype)
    learnt = [x, before, *layer.parameters()]
    once = torch.autograd.grad(out.square().sum(), learnt, retain_graph=True)
    assert all(map(torch.equal, once, torch.autograd.grad(out.square().sum(), learnt)))


@given(cut=st.integers(1, 5))
@both
def test_a_sequence_may_be_cut_and_gone_on_with(kind: type[Layer], cut: int) -> None:
    layer, x, before = layer_and_inputs(kind, 3, 6, 2, 5)
    read = partial(narrow, layer, dtype=x.dtype)
    whole = read(x, before)
    start = read(x[:, :cut], before)
    halves = torch.cat([start, read(x[:, cut:], start[:, -1])], dim=1)
    close(halves, whole)
    learnt = [x, before, *layer.parameters()]
    close(*(torch.autograd.grad(out.square().sum(), learnt) for out in (halves, whole)))


@both
def test_narrow_products_change_little(kind: type[Layer]) -> None:
    layer, x, before = layer_and_inputs(kind, 9, 12, 8, 16)
    layer, x, before = layer.float(), x.float().detach().requires_grad_(), before.float().detach().requires_grad_()
    learnt = [x, before, *layer.parameters()]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        out = narrow(layer, x, before, dtype)
        assert out.dtype == torch.float32
        results.append([out.detach(), *torch.autograd.grad(out.square().sum(), learnt)])
    for wide, other in zip(*results, strict=True):
        assert other.dtype == torch.float32
        assert 0 < float((other - wide).norm() / wide.norm()) < 0.02


@both
def test_a_row_does_not_depend_on_its_neighbours_or_on_what_comes_after_it(kind: type[Layer]) -> None:
    layer, x, before = layer_and_inputs(kind, 9, 12, 8, 16)
    read = partial(narrow, layer, dtype=torch.bfloat16)
    whole = read(x.float(), before.float())
    alone = read(x[4:5, :7].float(), before[4:5].float())
    torch.testing.assert_close(alone, whole[4:5, :7], rtol=0, atol=0.02)
