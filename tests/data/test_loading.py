"""Batches hold what their pairs say; streams resume, divide and run ahead without changing what is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqkit.batch import Batch
from seqkit.data.batching import Indices
from seqkit.data.datasets import Encoded
from seqkit.data.loading import BuildBatch, ExampleGroup, ExampleStream, label_batch, translation_batch
from seqkit.text.vocabulary import BOS, EOS, PAD

SENTENCE = st.lists(st.integers(4, 99), max_size=7)


def encoded_pairs(count: int, seed: int = 0) -> tuple[Encoded, Encoded]:
    """Pairs whose ids all are the pair's number + 10, so that a batch shows which pairs it holds."""
    sizes = np.random.default_rng(seed).integers(1, 9, size=(2, count))
    return (
        Encoded.from_lists([[i + 10] * int(size) for i, size in enumerate(sizes[0])]),
        Encoded.from_lists([[i + 10] * int(size) for i, size in enumerate(sizes[1])]),
    )


def stream(
    make: BuildBatch = translation_batch, *, rank: int = 0, world: int = 1, prefetch: int = 0, accumulate: int = 2
) -> ExampleStream:
    pairs = encoded_pairs(60)
    return ExampleStream(
        make,
        examples=lambda epoch: pairs,
        budget=30,
        accumulate=accumulate,
        seed=7,
        rank=rank,
        world=world,
        prefetch=prefetch,
    )


def numbers(batch: Batch) -> list[int]:
    """Which pairs a batch holds, seen from its source and, equally, its targets."""
    assert batch.source is not None
    counted = batch.targets.mask.any(dim=1)
    source = (batch.source.ids[counted, 0] - 10).tolist()
    assert source == (batch.targets.ids[counted, 0] - 10).tolist()
    return [int(number) for number in source]


def read(groups: Iterator[ExampleGroup]) -> list[list[list[int]]]:
    return [[numbers(batch) for batch in group.batches] for group in groups]


@given(st.lists(st.tuples(SENTENCE, SENTENCE), min_size=1, max_size=9), st.data())
def test_a_batch_holds_its_pairs(pairs: list[tuple[list[int], list[int]]], data: st.DataObject) -> None:
    source, target = (Encoded.from_lists([pair[side] for pair in pairs]) for side in (0, 1))
    chosen = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1))
    batch = translation_batch(source, target, np.array(chosen, dtype=np.int64))
    assert batch.source is not None
    assert batch.inputs is not None
    assert not batch.continues
    assert batch.source.ids.shape == (len(chosen), max(len(pairs[i][0]) for i in chosen) + 1)
    assert batch.inputs.shape == batch.targets.ids.shape
    assert {batch.source.ids.dtype, batch.inputs.dtype, batch.targets.ids.dtype} == {torch.int64}
    for row, index in enumerate(chosen):
        read, written = pairs[index]
        for ids, mask, expected in (
            (batch.source.ids, batch.source.mask, [*read, EOS]),
            (batch.targets.ids, batch.targets.mask, [*written, EOS]),
            (batch.inputs, batch.targets.mask, [BOS, *written]),
        ):
            assert ids[row].tolist() == expected + [PAD] * (ids.shape[1] - len(expected))
            assert mask[row].tolist() == [True] * len(expected) + [False] * (ids.shape[1] - len(expected))


def test_a_batch_of_nothing_counts_nothing() -> None:
    batch = translation_batch(*encoded_pairs(3), np.array([], dtype=np.int64))
    assert batch.source is not None
    assert batch.inputs is not None
    assert batch.source.mask.tolist() == [[True]]
    assert batch.source.ids.tolist() == [[EOS]]
    assert batch.inputs.tolist() == [[BOS]]
    assert batch.targets.mask.tolist() == [[False]]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_each_epoch_reads_each_pair_once_in_another_order(prefetch: int) -> None:
    pairs = stream(prefetch=prefetch)
    epochs = [read(pairs.groups(epoch)) for epoch in range(4)]
    flat = [[number for group in epoch for batch in group for number in batch] for epoch in epochs]
    for order in flat:
        assert sorted(order) == list(range(60))
    assert len({str(order) for order in flat}) == 4
    assert epochs == [read(stream().groups(epoch)) for epoch in range(4)]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resuming_gives_the_rest_of_the_straight_stream(prefetch: int) -> None:
    straight = [read(stream().groups(epoch)) for epoch in range(4)]
    for start in range(len(straight[1]) + 2):
        resumed = stream(prefetch=prefetch)
        assert read(resumed.groups(1, start)) == straight[1][start:]
        assert [read(resumed.groups(epoch)) for epoch in (2, 3)] == straight[2:]


def test_nothing_is_built_for_skipped_groups() -> None:
    built: list[int] = []

    def count(source: Encoded, target: Encoded, indices: Indices) -> Batch:
        built.append(len(indices))
        return translation_batch(source, target, indices)

    pairs = stream(count, accumulate=1)
    assert len(list(pairs.groups(0, pairs.count(0) - 2))) == len(built) == 2


def test_groups_accumulate_and_the_last_may_be_smaller() -> None:
    single = read(stream(accumulate=1).groups(0))
    for accumulate in (1, 2, 3, 100):
        pairs = stream(accumulate=accumulate)
        groups = read(pairs.groups(0))
        assert [batch for group in groups for batch in group] == [batch for group in single for batch in group]
        assert {len(group) for group in groups[:-1]} <= {accumulate}
        assert 1 <= len(groups[-1]) <= accumulate
        assert pairs.count(0) == len(groups)
        assert [[batch.tolist() for batch in group] for group in pairs.indices(0)] == groups


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_processes_divide_each_group(world: int) -> None:
    whole = list(stream().groups(0))
    ranks = [list(stream(rank=rank, world=world).groups(0)) for rank in range(world)]
    for k, group in enumerate(whole):
        parts = [rank[k] for rank in ranks]
        for i, batch in enumerate(group.batches):
            assert sorted(n for part in parts for n in numbers(part.batches[i])) == sorted(numbers(batch))
        real = sum(int(batch.targets.mask.sum()) for part in parts for batch in part.batches)
        counts = {(part.tokens, part.sentences, part.padded) for part in parts}
        assert counts == {(real, sum(len(numbers(batch)) for batch in group.batches), group.padded)}
        assert group.padded == sum(batch.targets.ids.numel() for batch in group.batches)


def test_examples_are_asked_once_an_epoch() -> None:
    asked: list[int] = []

    def examples(epoch: int) -> tuple[Encoded, Encoded]:
        asked.append(epoch)
        return encoded_pairs(20, seed=epoch)

    pairs = ExampleStream(examples=examples, budget=30, accumulate=1, seed=1, prefetch=1)
    for epoch in (0, 1):
        assert pairs.count(epoch) == len(list(pairs.groups(epoch))) == len(pairs.indices(epoch))
    assert asked == [0, 1]


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_error_arrives_after_the_groups_before_it(prefetch: int) -> None:
    calls: list[int] = []

    def fail(source: Encoded, target: Encoded, indices: Indices) -> Batch:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError("too large")
        return translation_batch(source, target, indices)

    groups = stream(fail, accumulate=1, prefetch=prefetch).groups(0)
    for _ in range(3):
        next(groups)
    with pytest.raises(MemoryError, match="too large"):
        next(groups)
    assert not prefetching()


class Counted:
    """Makes batches and counts them."""

    def __init__(self) -> None:
        self.made = threading.Semaphore(0)

    def __call__(self, source: Encoded, target: Encoded, indices: Indices) -> Batch:
        self.made.release()
        return translation_batch(source, target, indices)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_the_thread_runs_ahead_no_further_than_asked(prefetch: int) -> None:
    make = Counted()
    groups = stream(make, accumulate=1, prefetch=prefetch).groups(0)
    next(groups)
    for _ in range(1 + prefetch):  # the one that was taken, and those ahead of it
        assert make.made.acquire(timeout=10)
    assert not make.made.acquire(timeout=0.1)


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("taken", [0, 1, 4])
def test_leaving_early_leaves_no_thread(prefetch: int, taken: int) -> None:
    make = Counted()
    groups = stream(make, accumulate=1, prefetch=prefetch).groups(0)
    for _ in range(taken):
        next(groups)
    for _ in range(taken + prefetch if taken else 0):  # until the thread waits for room
        assert make.made.acquire(timeout=10)
    del groups
    assert not prefetching()


def test_a_labelled_batch_of_nothing_counts_nothing() -> None:
    side = Encoded.from_lists([[7, 8]])
    batch = label_batch(side, side, np.array([], dtype=np.int64))
    assert batch.source is not None
    assert batch.source.ids.tolist() == [[EOS]]
    assert batch.targets.mask.tolist() == [[False]]
