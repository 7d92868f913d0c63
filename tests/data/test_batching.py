"""Batches: every index once, none above the budget, the same again for the same (seed, epoch)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seqkit.data.batching import length_batches, slice_of, token_batches
from seqkit.errors import ConfigError

BUDGET = 64
LENGTHS = st.lists(st.tuples(st.integers(0, 2 * BUDGET - 1), st.integers(0, BUDGET - 1)), max_size=80)
SEEDS = st.integers(0, 2**64)


def split(pairs: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def plan(pairs: list[tuple[int, int]], seed: int = 1, epoch: int = 0) -> list[list[int]]:
    source, target = split(pairs)
    return [batch.tolist() for batch in token_batches(source, target, budget=BUDGET, seed=seed, epoch=epoch)]


@given(LENGTHS, SEEDS, st.integers(0, 100))
def test_each_index_once_and_no_batch_above_budget(pairs: list[tuple[int, int]], seed: int, epoch: int) -> None:
    source, target = split(pairs)
    batches = plan(pairs, seed, epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(pairs)))
    for batch in batches:
        assert len(batch) * (target[batch].max() + 1) <= BUDGET
        assert len(batch) * (source[batch].max() + 1) <= 2 * BUDGET
    assert plan(pairs, seed, epoch) == batches


def test_batches_are_full() -> None:
    """Sixty-four rows of three tokens and `</s>` are four batches of sixteen, not more."""
    assert [len(batch) for batch in plan([(3, 3)] * 64)] == [16] * 4
    assert [len(batch) for batch in plan([(7, 1)] * 64)] == [16] * 4


def test_where_targets_get_longer_sources_stay_alike() -> None:
    """A batch with the last of one target length and the first of the next is not padded for both extremes."""
    pairs = [(source, target) for target in range(5, 12) for source in range(1, 30)]
    for batch in plan(pairs):
        sources = {pairs[index][0] for index in batch}
        assert max(sources) - min(sources) < len(batch)


def test_epochs_and_seeds_differ_in_neighbours_and_order() -> None:
    pairs = [(5, 5)] * 50 + [(9, 9)] * 50
    plans = [plan(pairs, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0), (2, 1))]
    assert len({str(batches) for batches in plans}) == 4
    assert len({str(sorted(sorted(batch) for batch in batches)) for batches in plans}) == 4
    widths = ["".join("5" if batch[0] < 50 else "9" for batch in batches) for batches in plans]
    assert len(set(widths)) > 1  # the batches themselves are shuffled, not only what is in them


@pytest.mark.parametrize(("pair", "needed"), [((1, 64), 65), ((128, 1), 65), ((300, 99), 151)])
def test_an_example_above_budget_is_an_error_with_the_remedy(pair: tuple[int, int], needed: int) -> None:
    with pytest.raises(ConfigError) as caught:
        plan([(1, 1), pair])
    assert caught.value.what == f"train.batch_tokens is {BUDGET}, but the longest training pair needs {needed}"
    assert str(needed) in str(caught.value.hint)
    source, target = split([(1, 1), pair])
    assert token_batches(source, target, budget=needed, seed=1, epoch=0)


@given(LENGTHS, st.integers(1, 5))
def test_slices_divide_a_batch_evenly(pairs: list[tuple[int, int]], world: int) -> None:
    for batch in token_batches(*split(pairs), budget=BUDGET, seed=1, epoch=0):
        slices = [slice_of(batch, rank, world) for rank in range(world)]
        assert sorted(np.concatenate(slices).tolist()) == sorted(batch.tolist())
        sizes = [len(part) for part in slices]
        assert max(sizes) - min(sizes) <= 1


def test_slices_are_alike_in_tokens() -> None:
    lengths = np.arange(100)
    (batch,) = token_batches(lengths, lengths, budget=10_000, seed=1, epoch=0)
    tokens = [lengths[slice_of(batch, rank, 4)].sum() for rank in range(4)]
    assert max(tokens) - min(tokens) <= lengths.max()


@given(st.lists(st.integers(0, 3 * BUDGET), max_size=60))
def test_length_batches(lengths: list[int]) -> None:
    batches = [batch.tolist() for batch in length_batches(np.array(lengths, dtype=np.int64), budget=BUDGET)]
    flat = [index for batch in batches for index in batch]
    assert flat == sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or len(batch) * (max(lengths[index] for index in batch) + 1) <= BUDGET


def test_a_large_corpus_is_planned_at_once() -> None:
    """The plan of a large corpus is a matter of seconds, and little of it is padding."""
    lengths = np.random.default_rng(0).integers(1, 60, size=(2, 200_000))
    batches = token_batches(lengths[0], lengths[1], budget=4096, seed=1, epoch=0)
    assert sum(map(len, batches)) == 200_000
    padded = sum(len(batch) * int(lengths[1][batch].max() + 1) for batch in batches)
    assert (lengths[1] + 1).sum() > 0.98 * padded
