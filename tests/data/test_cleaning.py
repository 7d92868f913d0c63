"""Reasons find examples; what is left and what each reason took add up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.cleaning import duplicates, filter_examples, overlap, too_long


def test_too_long_on_either_side() -> None:
    assert too_long(np.array([3, 4, 1, 9]), np.array([3, 1, 4, 9]), 3).tolist() == [1, 2, 3]


def test_overlap_is_exact_and_repeated() -> None:
    assert overlap(["a", "b", "A", "a ", "a"], ["a", "c"]).tolist() == [0, 4]
    assert overlap(["a"], []).tolist() == []


def test_duplicates_are_later_equal_pairs() -> None:
    assert duplicates(["a", "a", "a", "b"], ["x", "y", "x", "x"]).tolist() == [2]


@given(st.integers(0, 20).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.sets(st.integers(0, max(n - 1, 0)))))))
def test_kept_and_dropped_add_up(drawn: tuple[int, list[set[int]]]) -> None:
    count, found = drawn
    found = [numbers for numbers in found if count] if count else []
    kept = filter_examples(
        count, {f"reason {i}": np.array(sorted(numbers), dtype=np.int64) for i, numbers in enumerate(found)}
    )
    assert kept.indices.tolist() == sorted(set(range(count)).difference(*found))
    assert len(kept.indices) + sum(kept.dropped.values()) == count


def test_the_first_reason_counts() -> None:
    kept = filter_examples(
        4, {"first": np.array([0, 1]), "second": np.array([1, 2]), "third": np.array([], dtype=np.int64)}
    )
    assert kept.indices.tolist() == [3]
    assert kept.dropped == {"first": 2, "second": 1, "third": 0}
