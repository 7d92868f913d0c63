"""Scores of labelled text follow from its counts alone."""

from __future__ import annotations

import pytest

from seqkit.metrics.label_counts import LabelScores, Spans


def test_precision_recall_and_f1_are_per_cent() -> None:
    spans = Spans(correct=1, found=2, expected=4)
    assert (spans.precision, spans.recall) == (50, 25)
    assert spans.f1 == pytest.approx(2 * 50 * 25 / (50 + 25))


def test_spans_that_are_not_there_divide_nothing() -> None:
    assert (Spans(0, 0, 3).precision, Spans(0, 0, 3).f1) == (0, 0)
    assert (Spans(0, 3, 0).recall, Spans(0, 3, 0).f1) == (0, 0)
    assert Spans(0, 0, 0).f1 == 0


def test_types_are_counted_together() -> None:
    types = {"L": Spans(0, 2, 1), "P": Spans(1, 1, 2)}
    scores = LabelScores(sentences=2, tokens=8, correct=5, scheme="IOB2", types=types)
    assert scores.accuracy == 62.5
    assert scores.spans == Spans(1, 3, 3)
    assert scores.f1 == scores.spans.f1
    assert scores.signature == "scheme:IOB2|sentences:2|tokens:8|spans:3|found:3|correct:1"


def test_without_types_there_is_accuracy_alone() -> None:
    scores = LabelScores(sentences=1, tokens=3, correct=2, scheme="plain", types={})
    assert scores.spans is None
    assert scores.f1 is None
    assert scores.signature == "scheme:plain|sentences:1|tokens:3"
