"""Recurrent stacks: rows come first, reversal stays within each length, and fused kernels obey the spelt-out cells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from seqkit.kernels.arithmetic import products_in
from seqkit.layers import cells
from seqkit.layers.masks import length_mask
from seqkit.layers.recurrent import (
    LAYERS,
    BidirectionalStack,
    Kind,
    MinGRU,
    RecurrentStack,
    StackState,
    last_real,
    reversing_index,
)

close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
KINDS: tuple[Kind, ...] = ("rnn", "gru", "lstm")
every_kind = pytest.mark.parametrize("kind", KINDS)
lengths = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(torch.tensor)


def take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index)


@given(lengths)
def test_reversal_is_its_own_inverse_and_leaves_padding_in_place(lengths: Tensor) -> None:
    mask = length_mask(lengths, 7)
    x = torch.arange(7).expand(len(lengths), -1)
    order = reversing_index(mask)
    once = take(x, order)
    for row, length in enumerate(lengths.tolist()):
        assert once[row].tolist() == [*range(length - 1, -1, -1), *range(length, 7)]
    assert torch.equal(take(once, order), x)


@given(lengths)
def test_last_is_what_stands_at_the_end_of_each_row(lengths: Tensor) -> None:
    x = torch.randn(len(lengths), 7, 2)
    found = last_real(x, length_mask(lengths, 7))
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(found[row], x[row, length - 1])


def fused_layers(stack: nn.Module) -> list[nn.RNNBase]:
    """The layers that run by torch's kernels, with their weights."""
    return [module for module in stack.modules() if isinstance(module, nn.RNNBase)]


def spelt_out(stack: RecurrentStack, x: Tensor) -> Tensor:
    """The stack, one cell at a time."""
    for layer in fused_layers(stack):
        weights = [layer.get_parameter(f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        named = dict(zip(("w", "u", "b_w", "b_u"), weights, strict=True))
        h = c = x.new_zeros(len(x), stack.width)
        outs = []
        for step in x.unbind(1):
            match stack.kind:
                case "rnn":
                    h = cells.rnn(step, h, **named)
                case "gru":
                    h = cells.gru(step, h, **named)
                case "lstm":
                    h, c = cells.lstm(step, (h, c), **named)
            outs.append(h)
        x = torch.stack(outs, dim=1)
    return x


def stack_of(
    kind: Kind, *, layers: int = 2, dropout: float = 0.0, locked: bool = False, weight_drop: float = 0.0
) -> RecurrentStack:
    torch.manual_seed(0)
    return RecurrentStack(
        kind=kind, inputs=3, width=4, layers=layers, dropout=dropout, locked=locked, weight_drop=weight_drop
    ).double()


@every_kind
def test_a_stack_is_its_cells_on_top_of_each_other(kind: Kind) -> None:
    stack, x = stack_of(kind), torch.randn(2, 5, 3, dtype=torch.float64)
    out, state = stack(x)
    close(out, spelt_out(stack, x))
    close(state.hidden[:, -1], out[:, -1])


@every_kind
def test_states_have_a_row_a_sequence_and_go_on_where_they_stood(kind: Kind) -> None:
    stack, x = stack_of(kind), torch.randn(5, 6, 3, dtype=torch.float64)
    whole, end = stack(x)
    _, state = stack(x[:, :2])
    assert state.hidden.shape == (5, 2, 4)
    assert (state.cell is None) == (kind != "lstm")
    rows = torch.tensor([4, 0, 2])
    chosen = StackState(state.hidden[rows], None if state.cell is None else state.cell[rows])
    out, after = stack(x[rows, 2:], chosen)
    close(out, whole[rows, 2:])
    close(after.hidden, end.hidden[rows])


@every_kind
@pytest.mark.parametrize("bidirectional", [True, False])
@given(lengths=lengths)
@settings(max_examples=20)
def test_both_directions_end_where_the_sequence_ends(kind: Kind, bidirectional: bool, lengths: Tensor) -> None:
    torch.manual_seed(0)
    stack = BidirectionalStack(
        kind=kind, inputs=3, width=5, layers=2, bidirectional=bidirectional, dropout=0.0
    ).double()
    x, mask = torch.randn(len(lengths), 7, 3, dtype=torch.float64), length_mask(lengths, 7)
    together = stack(x, mask)
    assert together.shape == (len(lengths), 7, 5)
    for row, length in enumerate(lengths.tolist()):
        alone = stack(x[row : row + 1, :length], mask[row : row + 1, :length])
        close(together[row : row + 1, :length], alone)


def test_the_right_to_left_layer_reads_from_the_right() -> None:
    torch.manual_seed(0)
    stack = BidirectionalStack(kind="gru", inputs=3, width=4, layers=1, bidirectional=True, dropout=0.0).double()
    x = torch.randn(1, 5, 3, dtype=torch.float64)
    other = x.clone()
    other[0, 4] += 1
    mask = torch.ones(1, 5, dtype=torch.bool)
    moved = (stack(x, mask) - stack(other, mask)).abs()[0, 0]
    assert not moved[:2].any()
    assert moved[2:].all()


@every_kind
def test_dropout_stands_between_layers_and_nowhere_else(kind: Kind) -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    single = stack_of(kind, layers=1, dropout=0.5)
    close(single.train()(x)[0], single.eval()(x)[0])
    double = stack_of(kind, dropout=0.5)
    assert not torch.equal(double.train()(x)[0], double.eval()(x)[0])


@every_kind
def test_recurrent_matrices_begin_orthogonal_and_forget_gates_open(kind: Kind) -> None:
    torch.manual_seed(0)
    kernel = LAYERS[kind](3, 4)
    for gate in torch.split(kernel.get_parameter("weight_hh_l0"), 4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    bias = kernel.get_parameter("bias_ih_l0") + kernel.get_parameter("bias_hh_l0")
    expected = torch.zeros_like(bias)
    if kind == "lstm":
        expected[4:8] = 1.0
    assert torch.equal(bias, expected)


def test_a_locked_stack_drops_the_same_features_at_every_step() -> None:
    seen = []
    stack = stack_of("gru", dropout=0.5, locked=True)
    fused_layers(stack)[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    stack(torch.randn(6, 5, 3, dtype=torch.float64))
    (dropped,) = seen
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.any()
    assert not dropped.all()


@contextlib.contextmanager
def masks_noted(stack: RecurrentStack) -> Iterator[list[Tensor]]:
    """Every recurrent matrix as it was used."""
    seen: list[Tensor] = []
    hook = stack.weight_drop.register_forward_hook(lambda _module, _inputs, used: seen.append(used))
    yield seen
    hook.remove()


@every_kind
@pytest.mark.parametrize("begun", [False, True])
def test_dropped_weights_are_the_plain_stack_with_zeros_in_its_recurrent_matrices(kind: Kind, begun: bool) -> None:
    """One mask a layer holds for all steps; gradients reach the raw matrix where it was kept, and nothing changes."""
    stack, x = stack_of(kind, weight_drop=0.5), torch.randn(3, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        before = stack.eval()(x)[1] if begun else None
    held = {name: parameter.detach().clone() for name, parameter in stack.named_parameters()}
    with masks_noted(stack) as used:
        out, state = stack.train()(x, before)
    gradients = dict(zip(held, torch.autograd.grad(out.square().sum(), list(stack.parameters())), strict=True))
    torch.testing.assert_close(dict(stack.named_parameters()), held, rtol=0, atol=0)

    plain = stack_of(kind)
    assert list(dict(plain.named_parameters())) == list(held)
    with torch.no_grad():
        for layer, dropped in zip(fused_layers(plain), used, strict=True):
            layer.get_parameter("weight_hh_l0").copy_(dropped)
    expected, end = plain(x, before)
    close(out, expected)
    close(state, end)
    wanted = dict(zip(held, torch.autograd.grad(expected.square().sum(), list(plain.parameters())), strict=True))
    for index, dropped in enumerate(used):
        wanted[f"layers.{index}.weight_hh_l0"] *= 2 * (dropped != 0)
    close(gradients, wanted)
    assert [int((dropped == 0).sum()) > 0 for dropped in used] == [True, True]


def test_weights_are_dropped_anew_at_each_call_and_only_while_training() -> None:
    stack, x = stack_of("lstm", weight_drop=0.5), torch.randn(2, 5, 3, dtype=torch.float64)
    plain, _ = stack_of("lstm")(x)
    assert not torch.equal(stack(x)[0], stack(x)[0])
    before = torch.get_rng_state()
    assert torch.equal(stack.eval()(x)[0], plain)
    assert torch.equal(torch.get_rng_state(), before)


def calls(stack: RecurrentStack, x: Tensor) -> list[str]:
    """What torch ran."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        stack(x)[0].sum().backward()
    return [event.key for event in profile.key_averages()]


@pytest.mark.skipif(not torch._C._has_mkldnn, reason="needs oneDNN")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("weight_drop", [0.0, 0.5])
def test_an_lstm_keeps_its_fast_kernel_whatever_is_dropped(dtype: torch.dtype | None, weight_drop: float) -> None:
    stack = stack_of("lstm", weight_drop=weight_drop).float()
    with products_in(dtype):
        assert "aten::mkldnn_rnn_layer_backward" in calls(stack, torch.randn(2, 5, 3))


@every_kind
@pytest.mark.parametrize("bidirectional", [True, False])
def test_narrow_products_change_little(kind: Kind, bidirectional: bool) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 9, 6), torch.ones(4, 9, dtype=torch.bool)
    whole = BidirectionalStack(kind=kind, inputs=6, width=16, layers=2, bidirectional=bidirectional, dropout=0.0)
    stack = RecurrentStack(kind=kind, inputs=6, width=16, layers=2, dropout=0.0)
    runs: tuple[tuple[Callable[[], Tensor], nn.Module], ...] = (
        (lambda: whole(x, mask), whole),
        (lambda: stack(x)[0], stack),
    )
    for run, module in runs:
        expected = run()
        wanted = torch.autograd.grad(expected.square().sum(), list(module.parameters()))
        with products_in(torch.bfloat16):
            out = run()
            gradients = torch.autograd.grad(out.square().sum(), list(module.parameters()))
        assert out.dtype == torch.float32
        assert not torch.equal(out, expected)
        assert float((out - expected).detach().norm() / expected.detach().norm()) < 0.02
        for found, want in zip(gradients, wanted, strict=True):
            assert float((found - want).norm() / want.norm()) < 0.05


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_narrow_stack_goes_on_from_a_state_and_hands_on_a_wide_one(kind: Kind) -> None:
    torch.manual_seed(0)
    stack, x = RecurrentStack(kind=kind, inputs=6, width=16, layers=2, dropout=0.0), torch.randn(4, 9, 6)
    whole, end = stack(x)
    with products_in(torch.bfloat16):
        _, state = stack(x[:, :4])
        out, after = stack(x[:, 4:], state)
    assert {part.dtype for part in (*state, *after) if part is not None} == {torch.float32}
    torch.testing.assert_close(out, whole[:, 4:], rtol=0, atol=0.02)
    torch.testing.assert_close(after, end, rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_narrow_stack_drops_weights(kind: Kind) -> None:
    stack, x = stack_of(kind, weight_drop=0.5).float(), torch.randn(3, 5, 3)
    matrices = [layer.get_parameter("weight_hh_l0") for layer in fused_layers(stack)]
    with products_in(torch.bfloat16), masks_noted(stack) as used:
        out, _ = stack(x)
    gradients = torch.autograd.grad(out.square().sum(), matrices)
    plain = stack_of(kind).float()
    with torch.no_grad(), products_in(torch.bfloat16):
        for layer, dropped in zip(fused_layers(plain), used, strict=True):
            layer.get_parameter("weight_hh_l0").copy_(dropped)
        assert torch.equal(plain(x)[0], out)
    for gradient, dropped in zip(gradients, used, strict=True):
        assert not gradient[dropped == 0].any()
        assert gradient[dropped != 0].any()


@pytest.mark.parametrize("layers", [1, 3])
def test_a_stack_of_min_grus_is_its_cells_spelt_out(layers: int) -> None:
    torch.manual_seed(0)
    stack = RecurrentStack(kind="mingru", inputs=3, width=4, layers=layers, dropout=0.0).double()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    out, state = stack(x)
    expected = x
    for layer in stack.layers:
        assert isinstance(layer, MinGRU)
        gate, candidate = ((part.weight, part.bias) for part in (layer.gate, layer.candidate))
        h, states = torch.zeros(2, 4, dtype=torch.float64), []
        for step in expected.unbind(1):
            h = cells.min_gru(step, h, gate=gate, candidate=candidate)
            states.append(h)
        expected = torch.stack(states, dim=1)
    close(out, expected)
    assert state.cell is None
    close(state.hidden[:, -1], expected[:, -1])


def test_a_min_gru_has_no_recurrent_matrix_to_drop_entries_of() -> None:
    stack = RecurrentStack(kind="mingru", inputs=3, width=4, layers=1, dropout=0.0, weight_drop=0.5)
    with pytest.raises(ValueError, match="no recurrent matrix"):
        stack.train()(torch.randn(1, 2, 3))
