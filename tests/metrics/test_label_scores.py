"""Spans are those of conlleval: by hand, and against its two questions asked token by token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.errors import DataError
from seqkit.metrics.label_counts import LabelScores, Spans
from seqkit.metrics.label_scores import label_scores

SpanPlaces = list[tuple[int, int, int, str]]  # sentence, first token, last token, type


def ends(before: str, now: str, before_type: str, now_type: str) -> bool:
    """Whether a span ends between two tokens; conlleval's `endOfChunk`, asked letter by letter."""
    if before in ("E", "S", "L", "U"):
        return True
    if (before, now) in [("B", x) for x in "BSUO"] + [("I", x) for x in "BSUO"]:
        return True
    return before != "O" and before_type != now_type


def begins(before: str, now: str, before_type: str, now_type: str) -> bool:
    """Whether a span begins between two tokens; conlleval's `startOfChunk`, asked letter by letter."""
    if now in ("B", "S", "U"):
        return True
    if now in ("I", "E", "L") and before in ("O", "E", "S", "L", "U"):
        return True
    return now != "O" and before_type != now_type


def parts(label: str) -> tuple[str, str]:
    return ("O", "") if label[1:2] != "-" or label[0] not in "BIESLU" or not label[2:] else (label[0], label[2:])


def slow_spans(sentences: list[list[str]]) -> SpanPlaces:
    spans: SpanPlaces = []
    for number, labels in enumerate(sentences):
        before, kind, start = "O", "", None
        for place, label in enumerate([*labels, "O"]):
            now, now_kind = parts(label)
            if start is not None and ends(before, now, kind, now_kind):
                spans.append((number, start, place - 1, kind))
                start = None
            if begins(before, now, kind, now_kind):
                start = place
            before, kind = now, now_kind
    return spans


def slow_counts(hypotheses: list[list[str]], references: list[list[str]]) -> dict[str, Spans]:
    labelled, right = slow_spans(hypotheses), slow_spans(references)
    kinds = sorted({kind for *_, kind in labelled + right})

    def count(spans: SpanPlaces, kind: str) -> int:
        return sum(span[3] == kind for span in spans)

    both = [span for span in labelled if span in right]
    return {kind: Spans(count(both, kind), count(labelled, kind), count(right, kind)) for kind in kinds}


LABELS = st.sampled_from(
    [f"{letter}-{kind}" for letter in "BIESLU" for kind in ("P", "Q")] + ["O", "O", "B-", "X-P", "NN"]
)
PAIRS = st.lists(st.lists(st.tuples(LABELS, LABELS), max_size=8), min_size=1).filter(any)


@given(PAIRS)
def test_spans_are_those_of_the_slow_way(pairs: list[list[tuple[str, str]]]) -> None:
    hypotheses = [[label for label, _ in pair] for pair in pairs]
    references = [[right for _, right in pair] for pair in pairs]
    scores = label_scores(hypotheses, references)
    assert scores.types == slow_counts(hypotheses, references)
    assert scores.tokens == sum(map(len, references))
    assert scores.correct == sum(label == right for pair in pairs for label, right in pair)
    assert scores.sentences == len(pairs)
    assert (scores.f1 is None) == (scores.spans is None) == (not scores.types)


def of(hypotheses: str, references: str) -> LabelScores:
    """Sentences apart by ` / `."""
    labels, right = ([sentence.split() for sentence in text.split("/")] for text in (hypotheses, references))
    return label_scores(labels, right)


# Hypotheses, references, correct, found, expected.
BY_HAND = [
    ("B-P I-P O B-L", "B-P I-P O B-L", 2, 2, 2),
    ("B-P O O B-L", "B-P I-P O B-L", 1, 2, 2),  # too short is wrong
    ("B-P I-P I-P B-L", "B-P I-P O B-L", 1, 2, 2),  # too long is wrong
    ("B-L I-L O B-L", "B-P I-P O B-L", 1, 2, 2),  # the wrong type is wrong
    ("B-P I-L O B-L", "B-P I-P O B-L", 1, 3, 2),  # another type begins another span
    ("O I-P I-P O", "O B-P I-P O", 1, 1, 1),  # a lone I begins a span
    ("B-P B-P", "B-P I-P", 0, 2, 1),
    ("I-P / I-P", "B-P / B-P", 2, 2, 2),  # no span goes on in the next sentence
    ("B-P / I-P", "B-P / B-P", 2, 2, 2),
    ("I-P I-P B-P O", "I-P I-P B-P O", 2, 2, 2),  # IOB1: B parts neighbours
    ("S-P S-P B-P I-P E-P", "S-P S-P B-P I-P E-P", 3, 3, 3),
    ("B-P I-P I-P O", "B-P I-P E-P O", 1, 1, 1),  # an end that is not marked is an end all the same
    ("E-P E-P", "S-P S-P", 2, 2, 2),
    ("O O", "O B-P", 0, 0, 1),
    ("B-P-x I-P-x", "B-P-x I-P-x", 1, 1, 1),  # a type may hold a hyphen
]


@pytest.mark.parametrize(("hypotheses", "references", "correct", "found", "expected"), BY_HAND)
def test_cases_by_hand(hypotheses: str, references: str, correct: int, found: int, expected: int) -> None:
    assert of(hypotheses, references).spans == Spans(correct, found, expected)


def test_scores_follow_from_the_counts() -> None:
    scores = of("B-P I-P O B-L O B-L / O O", "B-P I-P O B-P O O / B-L O")
    assert scores.spans == Spans(1, 3, 3)
    assert scores.types == {"L": Spans(0, 2, 1), "P": Spans(1, 1, 2)}
    assert (scores.types["P"].precision, scores.types["P"].recall) == (100, 50)
    assert scores.types["P"].f1 == pytest.approx(200 / 3)
    assert scores.types["L"].f1 == 0
    assert scores.f1 == pytest.approx(100 / 3)
    assert scores.accuracy == pytest.approx(100 * 5 / 8)


def test_labels_that_mark_no_span_have_accuracy_alone() -> None:
    scores = of("DET NOUN VERB-X", "DET VERB VERB-X")
    assert scores.spans is None
    assert scores.f1 is None
    assert scores.accuracy == pytest.approx(200 / 3)
    assert scores.signature == "scheme:plain|sentences:1|tokens:3"


SCHEMES = [
    ("B-P I-P O B-L", "IOB2"),
    ("B-P B-P O", "IOB2"),
    ("I-P I-P O I-L", "IOB1"),
    ("I-P B-P O", "IOB1"),
    ("B-P I-L", "IOB1"),
    ("B-P E-P O", "BIOES"),
    ("O S-P", "BIOES"),
    ("B-P L-P", "BILOU"),
    ("U-P O", "BILOU"),
    ("O NN", "plain"),
]


@pytest.mark.parametrize(("labels", "scheme"), SCHEMES)
def test_the_scheme_is_that_of_the_references(labels: str, scheme: str) -> None:
    assert of(labels, labels).scheme == scheme


def test_a_broken_hypothesis_changes_no_scheme() -> None:
    assert of("O I-P I-P", "B-P I-P O").scheme == "IOB2"


def test_the_signature_says_what_was_counted() -> None:
    assert of("B-P O / B-L", "B-P O / O").signature == "scheme:IOB2|sentences:2|tokens:3|spans:1|found:2|correct:1"


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([["O"]], [["O"], ["O"]], "1 labelled sentences, but 2 references"),
        ([["O"], ["O"]], [["O"], ["O", "O"]], "sentence 2 has 1 labels, its reference 2"),
        ([["O"], "O"], [["O"], ["O"]], "sentence 2 is a text"),
        ([["O"]], ["O"], "sentence 1 is a text"),
        ([], [], "no tokens"),
        ([[], []], [[], []], "no tokens"),
    ],
)
def test_what_does_not_match_is_refused(
    hypotheses: list[Sequence[str]], references: list[Sequence[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        label_scores(hypotheses, references)
