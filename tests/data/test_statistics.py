"""Counts are those of a dictionary, and Zipf's law is found where it holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.statistics import NgramCount, statistics, zipf_slope

texts = st.lists(st.lists(st.sampled_from(["a", "b", "c", "dd", "\u00e9", " "]), max_size=8), max_size=6)


def grams(lines: list[list[str]], order: int) -> Counter[tuple[str, ...]]:
    """In the order of their first appearance, as `most_common` keeps it among equals."""
    return Counter(tuple(line[i : i + order]) for line in lines for i in range(len(line) - order + 1))


@given(texts, st.integers(0, 5))
def test_counts_are_those_of_a_dictionary(lines: list[list[str]], top: int) -> None:
    found = statistics((line for line in lines), top=top)
    assert found.lines == len(lines)
    assert found.tokens == sum(map(len, lines))
    assert found.longest == max(map(len, lines), default=0)
    assert found.mean == (found.tokens / len(lines) if lines else 0)
    assert [each.order for each in found.frequencies] == [1, 2, 3]
    for each in found.frequencies:
        expected = grams(lines, each.order)
        assert each.ranked.tolist() == sorted(expected.values(), reverse=True)
        assert each.top == [NgramCount(gram, count) for gram, count in expected.most_common(top)]
        assert each.types == len(expected)
        assert each.hapaxes == list(expected.values()).count(1)
        assert (each.slope is None) == (len(expected) < 2)


def test_characters_are_tokens_too() -> None:
    found = statistics(["abab", "", "ba"])
    assert found.frequencies[1].top == [NgramCount(("a", "b"), 2), NgramCount(("b", "a"), 2)]
    assert (found.lines, found.tokens, found.mean) == (3, 6, 2)


@pytest.mark.parametrize("slope", [-0.5, -1.0, -1.7])
def test_the_slope_of_a_power_law_is_its_exponent(slope: float) -> None:
    counts = np.rint(1e15 * np.arange(1, 500) ** slope).astype(np.int64)
    assert zipf_slope(counts) == pytest.approx(slope)
    assert zipf_slope(7 * counts) == pytest.approx(slope)


def test_each_decade_of_ranks_counts_alike() -> None:
    """Were every rank to count alike, the 900 of the last decade would drown the steeper beginning."""
    ranks = np.arange(1, 10_000)
    bent = np.where(ranks <= 100, 1e8 * ranks**-1.0, 1e6 * (ranks / 100) ** 0.0)
    assert -0.65 < zipf_slope(bent) < -0.35  # by symmetry about the middle: -0.5
    with pytest.raises(ValueError, match="two points"):
        zipf_slope(ranks[:1])
