"""Scores after length normalisation are the formulas of the papers."""

from __future__ import annotations

import pytest

from seqkit.search.hypothesis import length_normalised
from seqkit.settings import Normalisation


@pytest.mark.parametrize(
    ("reward", "normalisation", "score"),
    [
        (0.0, "power", -12.0),
        (1.0, "power", -12.0 / 4),
        (0.5, "power", -12.0 / 2),
        (1.0, "gnmt", -12.0 / (9 / 6)),
        (2.0, "gnmt", -12.0 / (9 / 6) ** 2),
    ],
)
def test_a_sum_is_divided_by_a_power_of_the_length(reward: float, normalisation: Normalisation, score: float) -> None:
    assert length_normalised(-12.0, length=4, reward=reward, normalisation=normalisation) == pytest.approx(score)


def test_nothing_generated_counts_as_one_token() -> None:
    assert length_normalised(-3.0, length=0, reward=1.0) == -3.0
