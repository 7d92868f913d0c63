"""Recurrent stacks: rows come first, reversal stays within each length, and fused kernels obey the spelt-out cells."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.layers import cells
from seqkit.layers.masks import length_mask
from seqkit.layers.recurrent import BidirectionalStack, Kind, RecurrentStack, StackState, fused, last, reverse

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
    order = reverse(mask)
    once = take(x, order)
    for row, length in enumerate(lengths.tolist()):
        assert once[row].tolist() == [*range(length - 1, -1, -1), *range(length, 7)]
    assert torch.equal(take(once, order), x)


@given(lengths)
def test_last_is_what_stands_at_the_end_of_each_row(lengths: Tensor) -> None:
    x = torch.randn(len(lengths), 7, 2)
    found = last(x, length_mask(lengths, 7))
    for row, length in enumerate(lengths.tolist()):
        assert torch.equal(found[row], x[row, length - 1])


def spelt_out(stack: RecurrentStack, x: Tensor) -> Tensor:
    """The stack, one cell at a time."""
    for layer in stack.layers:
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


def stack_of(kind: Kind, *, layers: int = 2, dropout: float = 0.0) -> RecurrentStack:
    torch.manual_seed(0)
    return RecurrentStack(kind=kind, inputs=3, width=4, layers=layers, dropout=dropout).double()


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
    kernel = fused(kind, 3, 4)
    for gate in torch.split(kernel.get_parameter("weight_hh_l0"), 4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    bias = kernel.get_parameter("bias_ih_l0") + kernel.get_parameter("bias_hh_l0")
    expected = torch.zeros_like(bias)
    if kind == "lstm":
        expected[4:8] = 1.0
    assert torch.equal(bias, expected)
