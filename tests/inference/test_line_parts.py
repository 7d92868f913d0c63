"""Hypotheses of a line's parts: which is chosen, and how parts become one translation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from seqkit.inference.line_parts import TranslatedPart, join_parts, rank
from seqkit.search.hypothesis import Hypothesis
from seqkit.settings import Search

WORDS = {3: "a", 4: "b", 5: "c", 6: "d"}


def decode(ids: Sequence[int]) -> str:
    return " ".join(WORDS[id] for id in ids)


def hypothesis(*ids: int, score: float = -1.0, finished: bool = True) -> Hypothesis:
    return Hypothesis(ids, score * (len(ids) + finished), score, finished)


def test_a_hypothesis_with_more_of_the_terms_comes_first() -> None:
    ranked = rank([hypothesis(3, 4), hypothesis(3, 5)], [("x", "c")], Search(nbest=2), decode)
    assert [best.ids for best in ranked] == [(3, 5), (3, 4)]
    assert len(rank([hypothesis(3), hypothesis(4)], [], Search(nbest=1), decode)) == 1


def test_minimum_risk_takes_the_text_most_like_the_others() -> None:
    draws = [hypothesis(6, 6, score=-0.1), hypothesis(3, 4), hypothesis(3, 4), hypothesis(3, 5)]
    ranked = rank(draws, [], Search(method="minimum_risk", nbest=3), decode)
    assert [best.ids for best in ranked] == [(3, 4), (3, 5), (6, 6)]


def test_parts_are_joined_in_their_order_with_the_mean_score_of_all_tokens() -> None:
    first, second = hypothesis(3, score=-1.0), hypothesis(4, 5, 6, score=-2.0, finished=False)
    parts = [TranslatedPart((7,), [first], []), TranslatedPart((8, 9), [second, first], [("x", "a", "z")])]
    joined = join_parts("line", parts, [], decode)
    assert (joined.source, joined.text, joined.parts) == ("line", "a b c d", 2)
    assert joined.score == pytest.approx((-1.0 * 2 - 2.0 * 3) / 5)
    assert joined.log_prob == pytest.approx(-8.0)
    assert joined.truncated
    assert joined.alternatives == (("a a", -1.0),)
    assert joined.segments == (((7,), (3,)), ((8, 9), (4, 5, 6)))


def test_a_line_without_parts_is_blank() -> None:
    assert join_parts(" ", [], [], decode).text == ""
