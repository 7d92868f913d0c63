"""Expected utilities are means over all candidates, equal ones included, which are compared once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.search.minimum_risk import expected_utilities


def overlap(hypothesis: str, references: Sequence[str]) -> list[float]:
    """The share of a text's letters that each reference has too."""
    return [sum(letter in reference for letter in hypothesis) / max(1, len(hypothesis)) for reference in references]


@given(st.lists(st.text(alphabet="abc", max_size=3), min_size=1, max_size=8))
def test_it_is_the_mean_over_all_candidates(candidates: list[str]) -> None:
    expected = [sum(overlap(text, candidates)) / len(candidates) for text in candidates]
    assert expected_utilities(candidates, overlap) == pytest.approx(expected)


def test_equal_candidates_are_compared_once() -> None:
    asked: list[str] = []

    def noted(hypothesis: str, references: Sequence[str]) -> list[float]:
        asked.append(hypothesis)
        assert list(references) == ["a", "b"]
        return overlap(hypothesis, references)

    assert expected_utilities(["a", "b", "a", "a"], noted) == pytest.approx([0.75, 0.25, 0.75, 0.75])
    assert asked == ["a", "b"]
