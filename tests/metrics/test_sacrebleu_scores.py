"""What sacrebleu computes is what its own command line prints, the interval included."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from sacrebleu import BLEU, CHRF

from seqkit.metrics import Score, corpus_scores, length_ratio, sacrebleu_scores
from seqkit.metrics.sacrebleu_scores import Utility, sentence_chrf, utilities

WORDS = "the a man woman dog , . \u201e Stra\u00dfe rides , holds 3.5 red-brown & &amp; it's"
RESAMPLES = 100


def corpus(lines: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Hypotheses, some empty, and references that resemble them."""
    chance = random.Random(seed)
    references = [" ".join(chance.choices(WORDS.split(), k=chance.randint(1, 15))) for _ in range(lines)]
    hypotheses = [" ".join(word for word in line.split() if chance.random() < 0.8) for line in references]
    return ["" if chance.random() < 0.05 else line for line in hypotheses], references


def one_score(
    hypotheses: list[str], references: list[list[str]], metric: str = "bleu", resamples: int = RESAMPLES
) -> Score:
    [score] = corpus_scores(hypotheses, references, metrics=[metric], resamples=resamples)
    return score


@pytest.mark.parametrize("seed", [12345, 7])
def test_scores_intervals_and_signatures_are_those_of_the_command_line(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", str(seed))
    hypotheses, reference = corpus(200)
    for name, lines in (("hypotheses", hypotheses), ("reference", reference)):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "hypotheses", "-m", "bleu", "chrf", "ter"]
    command += ["-w", "12", "--confidence", "--confidence-n", str(RESAMPLES)]
    output = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, check=True).stdout
    scores = corpus_scores(hypotheses, [reference], resamples=RESAMPLES)
    for score, expected in zip(scores, json.loads(output), strict=True):
        mean, half = expected["confidence_mean"], expected["confidence_var"]
        assert score.name == expected["name"]
        assert score.value == pytest.approx(expected["score"], abs=1e-9)
        assert (score.low, score.high) == pytest.approx((mean - half, mean + half), rel=1e-6)
        assert score.low < score.value < score.high
        assert score.signature == expected["signature"].replace(f"bs:{RESAMPLES}|seed:{seed}|", "")


def test_more_reference_sets() -> None:
    hypotheses, reference = corpus(50)
    references = [reference, corpus(50, seed=1)[1]]
    score = one_score(hypotheses, references, "chrf++")
    assert score.value == pytest.approx(CHRF(word_order=2).corpus_score(hypotheses, references).score, abs=1e-9)
    assert score.signature.startswith("nrefs:2|case:")


@pytest.mark.parametrize("resamples", [0, 1])
def test_without_resamples_there_is_no_interval(resamples: int) -> None:
    hypotheses, reference = corpus(20)
    score = one_score(hypotheses, [reference], resamples=resamples)
    assert score.low == score.value == score.high
    assert score == one_score(hypotheses, [reference], resamples=0)
    assert "bs:" not in score.signature


def test_same_seed_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses, reference = corpus(60)
    first, again = (one_score(hypotheses, [reference]) for _ in range(2))
    monkeypatch.setenv("SACREBLEU_SEED", "2")
    other = one_score(hypotheses, [reference])
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.value == other.value


def test_an_interval_stays_within_the_range_of_its_score() -> None:
    hypotheses, reference = ["the man rides a red dog", *[""] * 2], ["the man rides a red dog", "a cat", "a dog"]
    score = one_score(hypotheses, [reference])
    assert 0 == score.low < score.value < score.high <= 100
    score = one_score(["a man rides his dog"] * 2, [["x", "a man rides his dog"]], "ter")
    assert 0 == score.low < 100 < score.high  # more edits than words
    for metric in ("bleu", "chrf"):
        score = one_score(["x", "y"], [["a b c d e", "f g h i"]], metric)
        assert score.low == score.value == score.high == 0


def test_a_large_corpus_is_resampled_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    hypotheses, reference = corpus(40)
    monkeypatch.setattr(sacrebleu_scores, "MOST_DRAWN_LINES", 40 * 60)
    assert one_score(hypotheses, [reference], resamples=1000) == one_score(hypotheses, [reference], resamples=60)
    monkeypatch.setattr(sacrebleu_scores, "MOST_DRAWN_LINES", 40)
    assert one_score(hypotheses, [reference], resamples=1000) == one_score(hypotheses, [reference], resamples=40)
    assert one_score(hypotheses, [reference], resamples=9) != one_score(hypotheses, [reference], resamples=40)


def test_lengths_are_those_of_bleu() -> None:
    hypotheses, reference = corpus(50)
    references = [reference, corpus(50, seed=1)[1]]
    expected = BLEU().corpus_score(hypotheses, references)
    assert length_ratio(hypotheses, references) == expected.sys_len / expected.ref_len


def test_a_line_is_compared_with_its_best_reference() -> None:
    assert sentence_chrf("a dog", ["a cat", "a dog"]) == pytest.approx(100)
    assert sentence_chrf("a dog", ["a cat"]) == CHRF().sentence_score("a dog", ["a cat"]).score


@pytest.mark.parametrize("utility", get_args(Utility))
def test_the_most_like_has_the_highest_utility(utility: Utility) -> None:
    texts = ["a red dog", "a red cat", "it's 3.5", ""]
    same, near, far, empty = utilities("a red dog", texts, utility=utility)
    metric = CHRF() if utility == "chrf" else BLEU(effective_order=True)
    assert near == metric.sentence_score("a red dog", ["a red cat"]).score
    assert same == pytest.approx(100)
    assert same > near > far >= empty == 0
