"""The narrow RNN is torch's, gradients and all, but for the arithmetic of its products."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqkit.kernels.arithmetic import BLOCK_ROWS
from seqkit.kernels.rnn import narrow_rnn
from tests.support.narrow_layers import narrow_case, sizes

case = narrow_case(narrow_rnn, nn.RNN)


@given(rows=sizes, steps=sizes, inputs=sizes, width=sizes)
@settings(max_examples=40)
def test_outputs_and_all_gradients_are_those_of_torch(rows: int, steps: int, inputs: int, width: int) -> None:
    case(rows, steps, inputs, width).check_it_is_torch_s()


@pytest.mark.parametrize("rows", [BLOCK_ROWS // 4, BLOCK_ROWS // 4 + 1])
def test_rows_that_fill_a_product_exactly_need_no_filling(rows: int) -> None:
    case(rows, 4, 3, 2).check_it_is_torch_s()


def test_saturated_gates_stay_finite() -> None:
    case(3, 4, 2, 5).check_large_inputs()


def test_the_backward_pass_leaves_what_it_read_as_it_was() -> None:
    case(3, 4, 2, 5).check_the_backward_pass_can_be_repeated()


@given(cut=st.integers(1, 5))
def test_a_sequence_may_be_cut_and_gone_on_with(cut: int) -> None:
    case(3, 6, 2, 5).check_a_cut(cut)


def test_narrow_products_change_little() -> None:
    case(9, 12, 8, 16).check_narrow_products()


def test_a_row_does_not_depend_on_its_neighbours_or_on_what_comes_after_it() -> None:
    case(9, 12, 8, 16).check_a_row_alone()
