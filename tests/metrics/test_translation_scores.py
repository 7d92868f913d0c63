"""Scores of translations: nothing misaligned is ever scored, and what is counted is what a reader expects."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import CHRF

from seqkit.errors import ConfigError, DataError
from seqkit.metrics import Score, corpus_scores, exact_match, length_ratio, worst_lines
from seqkit.metrics.table import METRICS, TranslationMetric
from seqkit.metrics.translation_scores import select

HYPOTHESES = ["the dog sleeps", "", "a man walks his dog in the park"]
REFERENCES = [["the dog sleeps", "a cat", "a man walks the dog in a park"]]


def copied_lines(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None, *, resamples: int
) -> Score:
    """A metric that needs the sources: the share of lines that are copies of theirs."""
    assert sources is not None
    value = sum(map(str.__eq__, hypotheses, sources)) / len(hypotheses)
    return Score("copied", value, value, value, "")


@pytest.fixture
def with_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = TranslationMetric(
        name="copied", title="copied lines", higher_is_better=False, needs_sources=True, compute=copied_lines
    )
    monkeypatch.setitem(METRICS, "copied", metric)


@settings(max_examples=30, deadline=None)
@given(lines=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_text_can_be_scored(lines: list[str]) -> None:
    lines = [line.replace("\u2581", " ") for line in lines]
    for score in corpus_scores(lines, [lines], resamples=5):
        assert 0 <= score.low <= score.high <= 100 + 1e-9
    assert exact_match(lines, [lines]) == 1
    assert len(worst_lines(lines, [lines], 3)) == min(3, len(lines))


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a", "b", "c"], [["a", "b"]], "3 hypotheses, but reference 1 has 2 lines"),
        (["a", "b"], [["a", "b"], ["a"]], "2 hypotheses, but reference 2 has 1 lines"),
        (["a"], [["a", "b"]], "1 hypotheses, but reference 1 has 2 lines"),
        (["a", "b", "c"], [["a"], ["b"], ["c"]], "3 hypotheses, but reference 1 has 1 lines"),
        ([], [[]], "no lines"),
        ([], [], "no lines"),
        (["a"], [], "no references"),
        (["a", "b"], ["a", "b"], "a single text"),
        ("ab", [["a", "b"]], "a single text"),
        (["\u2581The \u2581dog", "", "\u2581a"], [["The dog", "", "a"]], "hypotheses are SentencePiece pieces"),
        (["The dog"], [["\u2581The \u2581dog"]], "references are SentencePiece pieces"),
    ],
)
def test_what_cannot_be_scored_never_reaches_sacrebleu(
    hypotheses: list[str], references: list[list[str]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("corpus_score", "sentence_score"):
        monkeypatch.setattr(f"sacrebleu.metrics.base.Metric.{name}", None)
    for function in (corpus_scores, exact_match, length_ratio):
        with pytest.raises(DataError, match=message) as caught:
            function(hypotheses, references)
        assert caught.value.hint is not None
    with pytest.raises(DataError, match=message):
        worst_lines(hypotheses, references, 1)


@pytest.mark.parametrize(
    ("sources", "message"),
    [(["a"], "2 hypotheses, but 1 sources"), ("ab", "a single text")],
)
def test_sources_are_parallel_too(sources: Sequence[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        corpus_scores(["a", "b"], [["a", "b"]], sources=sources)


def test_the_hint_for_transposed_references() -> None:
    with pytest.raises(DataError) as caught:
        corpus_scores(["a", "b", "c"], [["a"], ["b"], ["c"]])
    assert caught.value.hint is not None
    assert "not one per line" in caught.value.hint


def test_one_line_with_the_mark_is_text() -> None:
    lines = ["the sign \u2581 is a block", "this is", "text"]
    [score] = corpus_scores(lines, [lines], metrics=["bleu"], resamples=0)
    assert score.value == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("blue", "did you mean 'bleu'"), ("xyz", "choose from bleu, chrf, "), ("loss", "choose from bleu")],
)
def test_what_is_no_score_of_translations_is_named(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        corpus_scores(["a"], [["a"]], metrics=[name])
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.usefixtures("with_copied")
def test_a_metric_that_needs_sources_is_given_them_or_refused() -> None:
    lines = ["a", "b"]
    scores = corpus_scores(lines, [lines], sources=["a", "c"], metrics=["copied", "bleu"], resamples=0)
    assert scores[0].value == 0.5
    with pytest.raises(ConfigError, match="copied lines needs the sources"):
        corpus_scores(lines, [lines], metrics=["copied"])
    assert [metric.name for metric in select(["ter", "copied"], with_sources=True)] == ["ter", "copied"]


def test_exact_match_takes_any_reference() -> None:
    assert exact_match(HYPOTHESES, REFERENCES) == pytest.approx(1 / 3)
    assert exact_match(HYPOTHESES, [*REFERENCES, ["", "", ""]]) == pytest.approx(2 / 3)


def test_length_ratio_counts_words() -> None:
    assert length_ratio(HYPOTHESES, REFERENCES) == pytest.approx((3 + 0 + 8) / (3 + 2 + 8))
    assert length_ratio(["a"], [[""]]) == 0


def test_worst_lines_come_first() -> None:
    lines = worst_lines(HYPOTHESES, REFERENCES, 2)
    assert [line.number for line in lines] == [2, 3]
    assert lines[0].score == 0
    assert lines[0].references == ("a cat",)
    expected = CHRF().sentence_score(HYPOTHESES[2], [REFERENCES[0][2]]).score
    assert lines[1].score == pytest.approx(expected, abs=1e-9)
    assert [line.number for line in worst_lines(["a", "b", "c"], [["x", "y", "z"]], 9)] == [1, 2, 3]
    assert worst_lines(HYPOTHESES, REFERENCES, 0) == []
