"""What a translation knows of itself: its ids, its unknown tokens, its linked words, its confidence."""

from __future__ import annotations

import math

import pytest

from seqkit.inference.translation import Line, Translation
from seqkit.text.vocabulary import UNKNOWN

TWO_PARTS = Translation(
    "a ? b c",
    "x y",
    log_prob=-6.0,
    parts=2,
    segments=(((4, UNKNOWN), (7,)), ((5, 6), (8,))),
    alignment=((0, 0, 0.9), (3, 1, 0.5), (9, 1, 0.1)),
)


def test_ids_are_those_of_all_parts() -> None:
    assert TWO_PARTS.source_ids == (4, UNKNOWN, 5, 6)
    assert TWO_PARTS.target_ids == (7, 8)
    assert TWO_PARTS.unknown == 1


def test_links_between_words_that_are_not_there_are_left_out() -> None:
    assert TWO_PARTS.linked_words == (("a", "x"), ("c", "y"))


@pytest.mark.parametrize(("truncated", "tokens"), [(False, 4), (True, 2)])
def test_confidence_is_the_mean_probability_of_a_token_ends_included(truncated: bool, tokens: int) -> None:
    found = Translation("a", "x", log_prob=-6.0, parts=2, segments=TWO_PARTS.segments, truncated=truncated)
    assert found.confidence == pytest.approx(math.exp(-6.0 / tokens))


def test_a_blank_line_has_nothing() -> None:
    blank = Translation("  ")
    assert (blank.text, blank.source_ids, blank.linked_words, blank.confidence) == ("", (), (), 0.0)
    assert Line("a") == Line("a", prefix="", glossary=None)
