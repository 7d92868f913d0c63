"""Positions: a piece that starts later is a piece of the whole, and rotary scores know distances only."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from seqkit.layers.positions import LearnedPositions, SinusoidalPositions, rotate, sinusoids


@pytest.mark.parametrize("width", [1, 4, 7])
def test_sinusoids_are_their_formula(width: int) -> None:
    waves = sinusoids(5, width, start=3)
    for row, place in enumerate(range(3, 8)):
        for i in range(width):
            angle = place / 10000 ** ((i - i % 2) / width)
            assert float(waves[row, i]) == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle))


@pytest.mark.parametrize("module", [SinusoidalPositions(6), LearnedPositions(6, maximum=600)], ids=["sine", "learned"])
@given(start=st.integers(0, 1100), length=st.integers(1, 30))
def test_a_piece_is_told_the_places_of_the_whole(module: nn.Module, start: int, length: int) -> None:
    """Also across the end of a table."""
    x = torch.zeros(1, start + length, 6)
    with torch.no_grad():
        torch.testing.assert_close(module(x[:, start:], start), module(x)[:, start:], rtol=0, atol=1e-6)


def test_learned_places_beyond_the_last_are_told_by_the_last() -> None:
    module = LearnedPositions(4, maximum=3)
    with torch.no_grad():
        out = module(torch.zeros(1, 6, 4))[0]
    assert torch.equal(out[:3], module.weight)
    assert torch.equal(out[3:], module.weight[-1:].expand(3, -1))


def test_sinusoids_beyond_the_table_change_no_module() -> None:
    module = SinusoidalPositions(4)
    module(torch.zeros(1, 2000, 4))
    assert len(module.table) == 512
    assert not module.state_dict()


@given(
    query=st.integers(0, 60), distance=st.integers(-20, 20), shift=st.integers(0, 60), width=st.sampled_from([2, 5, 8])
)
def test_rotary_scores_depend_on_distance_only(query: int, distance: int, shift: int, width: int) -> None:
    key = max(0, query + distance)
    q, k = torch.randn(2, 1, 1, 1, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(at: int, to: int) -> float:
        return float((rotate(q, at) * rotate(k, to)).sum())

    assert score(query, key) == pytest.approx(score(query + shift, key + shift), abs=1e-4)


def test_rotary_scores_tell_distances_apart() -> None:
    x = torch.ones(1, 1, 8, 4, dtype=torch.float64)
    scores = (rotate(x)[0, 0] @ rotate(x)[0, 0].T)[0]
    assert len(set(scores.round(decimals=6).tolist())) == 8


@given(st.integers(0, 500), st.sampled_from([2, 5, 8]))
def test_a_rotation_keeps_lengths(start: int, width: int) -> None:
    x = torch.randn(2, 3, 4, width, dtype=torch.float64)
    torch.testing.assert_close(rotate(x, start).norm(dim=3), x.norm(dim=3), rtol=1e-6, atol=1e-6)


def test_the_first_place_is_not_turned() -> None:
    x = torch.randn(1, 1, 1, 6)
    assert torch.equal(rotate(x), x)
