"""Scores are sacrebleu's, and nothing misaligned ever reaches it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from seqkit.errors import ConfigError, DataError
from seqkit.metrics import bleu, corpus_scores, exact_match, length_ratio, worst_lines

WORDS = "the a man woman dog , . \u201e Stra\u00dfe rides , holds 3.5 red-brown & &amp; it's"
HYPOTHESES = ["the dog sleeps", "", "a man walks his dog in the park"]
REFERENCES = [["the dog sleeps", "a cat", "a man walks the dog in a park"]]


def corpus(lines: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Hypotheses, some empty, and references that resemble them."""
    chance = random.Random(seed)
    references = [" ".join(chance.choices(WORDS.split(), k=chance.randint(1, 15))) for _ in range(lines)]
    hypotheses = [" ".join(word for word in line.split() if chance.random() < 0.8) for line in references]
    return ["" if chance.random() < 0.05 else line for line in hypotheses], references


def test_scores_and_signatures_are_those_of_the_command_line(tmp_path: Path) -> None:
    hypotheses, reference = corpus(200)
    for name, lines in (("hypotheses", hypotheses), ("reference", reference)):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "hypotheses", "-m", "bleu", "chrf", "ter"]
    output = subprocess.run([*command, "-w", "12"], cwd=tmp_path, capture_output=True, check=True).stdout
    expected = [(found["name"], found["score"], found["signature"]) for found in json.loads(output)]
    scores = corpus_scores(hypotheses, [reference], bootstrap=0)
    assert [(score.name, pytest.approx(score.value, abs=1e-9), score.signature) for score in scores] == expected
    assert scores[0].value == bleu(hypotheses, [reference])
    assert all(score.low == score.value == score.high for score in scores)


def test_more_reference_sets() -> None:
    hypotheses, reference = corpus(50)
    other = corpus(50, seed=1)[1]
    [score] = corpus_scores(hypotheses, [reference, other], metrics=["chrf++"], bootstrap=0)
    assert score.value == pytest.approx(CHRF(word_order=2).corpus_score(hypotheses, [reference, other]).score, abs=1e-9)
    assert score.signature.startswith("nrefs:2|")


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())])
def test_the_interval_is_sacrebleus(name: str, metric: BLEU | CHRF | TER, monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses, reference = corpus(40)
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    expected = metric.corpus_score(hypotheses, [reference], n_bootstrap=100)
    [score] = corpus_scores(hypotheses, [reference], metrics=[name], bootstrap=100, seed=7)
    assert (score.high - score.low) / 2 == pytest.approx(expected._ci, rel=1e-4)
    assert score.low < score.value < score.high


def test_same_seed_same_interval() -> None:
    hypotheses, reference = corpus(60)
    first, again, other = (
        corpus_scores(hypotheses, [reference], metrics=["bleu"], bootstrap=100, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.value == other.value


@settings(max_examples=30, deadline=None)
@given(lines=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_text_can_be_scored(lines: list[str]) -> None:
    lines = [line.replace("\u2581", " ") for line in lines]
    for score in corpus_scores(lines, [lines], bootstrap=5):
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
    monkeypatch.setattr("sacrebleu.metrics.base.Metric._extract_corpus_statistics", None)
    for function in (corpus_scores, bleu, exact_match, length_ratio):
        with pytest.raises(DataError, match=message) as caught:
            function(hypotheses, references)
        assert caught.value.hint is not None
    with pytest.raises(DataError, match=message):
        worst_lines(hypotheses, references, 1)


def test_the_hint_for_transposed_references() -> None:
    with pytest.raises(DataError) as caught:
        bleu(["a", "b", "c"], [["a"], ["b"], ["c"]])
    assert caught.value.hint is not None
    assert "not one per line" in caught.value.hint


def test_one_line_with_the_mark_is_text() -> None:
    lines = ["the sign \u2581 is a block", "this is", "text"]
    assert bleu(lines, [lines]) == pytest.approx(100)


@pytest.mark.parametrize(("name", "hint"), [("blue", "did you mean 'bleu'"), ("xyz", "choose from bleu")])
def test_an_unknown_metric_is_named(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        corpus_scores(["a"], [["a"]], metrics=[name])
    assert caught.value.hint is not None
    assert hint in caught.value.hint


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
