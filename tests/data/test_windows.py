"""A stream is cut into windows: nothing twice, rows that go on where they stopped, and the same cut whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seqkit.batch import Batch
from seqkit.data.loading import ExampleGroup
from seqkit.data.windows import WindowStream, usable_rows
from seqkit.text.vocabulary import BOS

FIRST = 10  # each token of a text is its place + 10, so that a batch shows which places it holds

SIZES = st.fixed_dictionaries(
    {
        "tokens": st.integers(1, 150).map(lambda count: np.arange(FIRST, FIRST + count, dtype=np.int32)),
        "rows": st.integers(1, 7),
        "window": st.integers(1, 12),
        "accumulate": st.integers(1, 3),
        "partition": st.sampled_from(["sequential", "random"]),
        "carries": st.booleans(),
        "seed": st.integers(0, 2**63 - 1),
    }
)
make = partial(WindowStream, prefetch=0)


def places(batch: Batch) -> NDArray[np.int64]:
    """Which places of the text a batch's targets are: (rows, T)."""
    found: NDArray[np.int64] = batch.targets.ids.numpy() - FIRST
    return found


def batches(groups: Iterator[ExampleGroup]) -> list[Batch]:
    return [batch for group in groups for batch in group.batches]


def read(groups: Iterator[ExampleGroup]) -> list[list[tuple[list[list[int]], bool]]]:
    """All that there is to know of groups whose batches are whole."""
    return [[(places(batch).tolist(), batch.continues) for batch in group.batches] for group in groups]


@given(SIZES, st.integers(0, 5))
def test_no_token_is_read_twice_and_few_are_left_out(sizes: dict[str, Any], epoch: int) -> None:
    found = np.concatenate([places(batch).flatten() for batch in batches(make(**sizes).groups(epoch))])
    tokens, window = len(sizes["tokens"]), sizes["window"]
    assert len(found) == len(np.unique(found))
    assert found.min() >= 0
    assert found.max() < tokens
    rows = usable_rows(tokens, rows=sizes["rows"], window=window)
    spare = window - 1 if tokens >= 2 * rows * window else 0
    rest = rows if sizes["partition"] == "sequential" else min(window, tokens)  # what does not fill a row, a window
    assert spare <= tokens - len(found) < spare + rest


@given(SIZES, st.integers(0, 5))
def test_inputs_are_the_targets_a_place_earlier(sizes: dict[str, Any], epoch: int) -> None:
    for batch in batches(make(**sizes).groups(epoch)):
        assert batch.source is None
        assert batch.inputs is not None
        assert batch.inputs.dtype == batch.targets.ids.dtype == torch.int64
        own = places(batch)
        assert (np.diff(own, axis=1) == 1).all()
        assert (batch.inputs.numpy() == np.where(own == 0, BOS, own - 1 + FIRST)).all()
        assert bool(batch.targets.mask.all())


@given(SIZES)
def test_sequential_rows_go_on_where_they_stopped(sizes: dict[str, Any]) -> None:
    stream = make(**(sizes | {"partition": "sequential"}))
    for epoch in range(3):
        found = batches(stream.groups(epoch))
        for before, after in pairwise(found):
            assert (places(after)[:, 0] == places(before)[:, -1] + 1).all()
        assert [batch.continues for batch in found] == [bool(stream.carries) and i > 0 for i in range(len(found))]
        assert {batch.targets.ids.shape for batch in found[:-1]} <= {(stream.rows, sizes["window"])}
    assert stream.carries == (stream.rows if sizes["carries"] else 0)


@given(SIZES)
def test_random_windows_carry_nothing_and_come_in_another_order_each_epoch(sizes: dict[str, Any]) -> None:
    stream = make(**(sizes | {"partition": "random"}))
    assert stream.carries == 0
    epochs = [batches(stream.groups(epoch)) for epoch in range(6)]
    assert not any(batch.continues for epoch in epochs for batch in epoch)
    assert len({batch.targets.ids.shape[1] for epoch in epochs for batch in epoch}) == 1
    if sum(len(batch.targets.ids) for batch in epochs[0]) > 6:
        assert len({str([places(batch)[:, 0] for batch in epoch]) for epoch in epochs}) > 1


@given(SIZES)
def test_every_epoch_has_as_many_groups_and_their_counts_are_true(sizes: dict[str, Any]) -> None:
    stream = make(**sizes)
    for epoch in range(4):
        groups = list(stream.groups(epoch))
        assert len(groups) == stream.count(epoch) == stream.count(0) >= 1
        assert {len(group.batches) for group in groups[:-1]} <= {sizes["accumulate"]}
        for group in groups:
            real = sum(batch.targets.ids.numel() for batch in group.batches)
            assert (group.tokens, group.padded) == (real, real)
            assert group.sentences == sum(len(batch.targets.ids) for batch in group.batches)
            budget = sizes["rows"] * sizes["window"]
            assert all(0 < batch.targets.ids.numel() <= budget for batch in group.batches)


@given(SIZES, st.integers(0, 3), st.integers(0, 20))
def test_starting_anywhere_gives_the_rest(sizes: dict[str, Any], epoch: int, start: int) -> None:
    straight = read(make(**sizes).groups(epoch))
    stream = make(**sizes)
    assert read(stream.groups(epoch, start)) == straight[start:]
    assert read(stream.groups(epoch)) == straight


@given(SIZES, st.integers(2, 9))
def test_processes_divide_each_batch(sizes: dict[str, Any], world: int) -> None:
    whole = list(make(**sizes).groups(1))
    ranks = [list(make(**sizes, rank=rank, world=world).groups(1)) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(whole)}
    for number, group in enumerate(whole):
        parts = [rank[number] for rank in ranks]
        assert {(part.tokens, part.sentences, part.padded) for part in parts} == {
            (group.tokens, group.sentences, group.padded)
        }
        for i, batch in enumerate(group.batches):
            for rank, part in enumerate(parts):
                mine, expected = part.batches[i], places(batch)[rank::world]
                assert mine.continues == batch.continues
                assert (places(mine)[mine.targets.mask.numpy()] == expected.flatten()).all()
                assert int(mine.targets.mask.sum()) == expected.size
                assert len(mine.targets.ids) == max(1, len(expected))  # a row to go through the motions with


def test_the_cut_is_a_function_of_seed_and_epoch() -> None:
    sizes: dict[str, Any] = {
        "tokens": np.arange(FIRST, FIRST + 300, dtype=np.int32),
        "rows": 4,
        "window": 7,
        "accumulate": 2,
        "carries": True,
    }
    for partition in ("sequential", "random"):
        cut = partial(make, **sizes, partition=partition)
        found = {(seed, epoch): read(cut(seed=seed).groups(epoch)) for seed in (1, 2) for epoch in range(4)}
        assert len({str(each) for each in found.values()}) > 3  # a beginning may be drawn twice
        assert any(found[1, epoch] != found[2, epoch] for epoch in range(4))
        stream = WindowStream(**sizes, partition=partition, seed=2, prefetch=3)
        assert [read(stream.groups(epoch)) for epoch in (3, 0)] == [found[2, 3], found[2, 0]]


def test_the_beginning_wanders_over_a_window() -> None:
    """So that windows do not always begin at the same tokens."""
    stream = make(
        np.arange(FIRST, FIRST + 100, dtype=np.int32),
        rows=2,
        window=5,
        partition="sequential",
        carries=True,
        accumulate=1,
        seed=3,
    )
    assert {int(places(next(stream.groups(epoch)).batches[0])[0, 0]) for epoch in range(60)} == set(range(5))


@pytest.mark.parametrize("partition", ["sequential", "random"])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_a_text_that_is_shorter_than_a_window_is_one_row(
    partition: Literal["sequential", "random"], count: int
) -> None:
    stream = make(
        np.arange(FIRST, FIRST + count, dtype=np.int32),
        rows=5,
        window=8,
        partition=partition,
        carries=True,
        accumulate=3,
        seed=1,
    )
    for epoch in range(3):
        (group,) = stream.groups(epoch)
        (batch,) = group.batches
        assert places(batch).tolist() == [list(range(count))]
        assert not batch.continues


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 40))
def test_rows_are_as_many_as_have_a_window_each(tokens: int, rows: int, window: int) -> None:
    fitting = usable_rows(tokens, rows=rows, window=window)
    assert 1 <= fitting <= rows
    assert fitting * window <= tokens or fitting == 1
    assert fitting == rows or (fitting + 1) * window > tokens
