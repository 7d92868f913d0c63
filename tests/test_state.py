"""The state rule: one verb for every model's state, whatever it is made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqkit.state import State, map_state, rows_of, select

ROWS = 4


class Named(NamedTuple):
    first: State
    second: State


leaves = st.one_of(
    st.none(),
    st.integers(0, 9),
    st.integers(1, 3).map(lambda width: torch.arange(ROWS * width).view(ROWS, width)),
)
states = st.recursive(
    leaves,
    lambda parts: st.one_of(st.lists(parts, max_size=3).map(tuple), st.builds(Named, parts, parts)),
    max_leaves=8,
)
rows = st.lists(st.integers(0, ROWS - 1), max_size=6).map(lambda chosen: torch.tensor(chosen, dtype=torch.int64))


def same(one: State, other: State) -> bool:
    """Equal in structure, types and content."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def tensors(state: State) -> list[Tensor]:
    if isinstance(state, tuple):
        return [tensor for part in state for tensor in tensors(part)]
    return [state] if isinstance(state, Tensor) else []


@given(states)
def test_cloning_keeps_everything_and_shares_nothing(state: State) -> None:
    copy = map_state(Tensor.clone, state)
    assert same(copy, state)
    assert not {tensor.data_ptr() for tensor in tensors(copy)} & {tensor.data_ptr() for tensor in tensors(state)}


@given(states, rows)
def test_select_takes_rows_of_every_tensor(state: State, rows: Tensor) -> None:
    chosen = select(state, rows)
    assert len(tensors(chosen)) == len(tensors(state))
    for after, before in zip(tensors(chosen), tensors(state), strict=True):
        assert torch.equal(after, before[rows])


@given(states, rows)
def test_selecting_twice_is_selecting_once(state: State, rows: Tensor) -> None:
    again = torch.arange(len(rows)).flip(0)
    assert same(select(select(state, rows), again), select(state, rows[again]))


@given(states)
def test_selecting_all_rows_in_order_changes_nothing(state: State) -> None:
    assert same(select(state, torch.arange(ROWS)), state)


@given(states)
def test_rows_are_counted_if_there_are_any(state: State) -> None:
    assert rows_of(state) == (ROWS if tensors(state) else None)


def test_detaching_cuts_the_graph_of_every_part() -> None:
    weight = torch.ones(2, requires_grad=True)
    state = Named(weight * 2, (None, 3, (weight * 3,)))
    assert not any(tensor.requires_grad for tensor in tensors(map_state(Tensor.detach, state)))
