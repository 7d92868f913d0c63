"""Random cuts: what the papers say, for every word apart, and the same in every process."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import pairwise
from typing import Literal

import pytest

from seqkit.text.subword_sampling import SubwordSampler
from seqkit.text.tokenizers import SentencePieceTokenizer

Algorithm = Literal["bpe", "unigram"]

LINES = ["the lower the newest", "low lower lowest newer newest wide wider widest", "the new wide low"] * 4


def model(algorithm: Algorithm = "bpe") -> SentencePieceTokenizer:
    size = 300 if algorithm == "bpe" else 279
    return SentencePieceTokenizer.learn(LINES, algorithm=algorithm, size=size)


def pieces(found: SentencePieceTokenizer, ids: list[int]) -> list[str]:
    return found.processor.id_to_piece(ids)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_draw_depends_on_the_seed_and_on_nothing_before(algorithm: Algorithm) -> None:
    found = model(algorithm)
    once = found.sample(LINES, algorithm=algorithm, rate=0.4, seed=1)
    other = found.sample(LINES, algorithm=algorithm, rate=0.4, seed=2)
    assert other != once
    assert found.sample(LINES, algorithm=algorithm, rate=0.4, seed=1) == once
    assert once[0] != once[3] or once[1] != once[4]  # equal lines are cut anew


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("text", ["", " ", "low  lower", "lowest ⇄ newest", "wide東京wider", "low " * 50])
def test_the_text_is_kept(algorithm: Algorithm, text: str) -> None:
    found = model(algorithm)
    cuts = found.sample([text] * 20, algorithm=algorithm, rate=0.5, seed=3)
    assert {found.decode(cut) for cut in cuts} == {found.decode(found.encode([text])[0])}


def test_without_a_dropped_merge_the_cut_is_the_library_s() -> None:
    found = model()
    assert found.sample(LINES, algorithm="bpe", rate=1e-12, seed=1) == found.encode(LINES)


def test_with_every_merge_dropped_characters_are_left() -> None:
    found = model()
    [cut] = found.sample(["low newest"], algorithm="bpe", rate=1.0, seed=1)
    assert pieces(found, cut) == list("▁low▁newest")


@pytest.mark.parametrize("word", ["lowest", pytest.param("wider", marks=pytest.mark.slow)])
def test_merges_are_dropped_as_in_algorithm_1(word: str) -> None:
    """The paper's loop, which decides on every possible merge at every step, drawn 20,000 times beside ours."""
    found = model()
    scores = dict(zip(found.pieces(), found.processor.get_score(list(range(len(found.pieces())))), strict=True))
    rate, count = 0.3, 20_000
    uniform = random.Random(7).random

    def paper() -> tuple[str, ...]:
        symbols = list("▁" + word)
        while True:
            possible = [(-scores[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in scores]
            left = [merge for merge in possible if uniform() >= rate]
            if not left:
                return tuple(symbols)
            _, place = min(left)
            symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]

    expected = Counter(paper() for _ in range(count))
    ours = Counter(
        tuple(pieces(found, cut)) for cut in found.sample([word] * count, algorithm="bpe", rate=rate, seed=1)
    )
    assert len(expected) > 5
    for cut in expected | ours:
        chance = (expected[cut] + ours[cut]) / (2 * count)
        assert abs(expected[cut] - ours[cut]) < 5 * math.sqrt(2 * chance * count) + 5, cut


@pytest.mark.parametrize("alpha", [1.0, pytest.param(0.1, marks=pytest.mark.slow)])
def test_cuts_of_a_unigram_model_have_their_probabilities(alpha: float) -> None:
    found, word, count = model("unigram"), "▁lowest", 20_000
    scores = dict(zip(found.pieces(), found.processor.get_score(list(range(len(found.pieces())))), strict=True))

    def every(rest: str) -> list[tuple[str, ...]]:
        if not rest:
            return [()]
        return [(rest[:n], *cut) for n in range(1, len(rest) + 1) if rest[:n] in scores for cut in every(rest[n:])]

    weights = {cut: math.exp(alpha * sum(scores[piece] for piece in cut)) for cut in every(word)}
    total = sum(weights.values())
    ours = Counter(
        tuple(pieces(found, cut)) for cut in found.sample(["lowest"] * count, algorithm="unigram", rate=alpha, seed=1)
    )
    assert len(weights) > 3
    assert set(ours) <= set(weights)
    for cut, weight in weights.items():
        expected = count * weight / total
        assert abs(ours[cut] - expected) < 5 * math.sqrt(expected) + 5, cut


def test_what_is_remembered_is_what_would_be_made() -> None:
    found = model()
    best = found.encode(LINES * 30)

    def fresh() -> SubwordSampler:
        return SubwordSampler(found.processor, algorithm="bpe", rate=0.4)

    usual, forgetful, one = fresh(), fresh(), fresh()
    forgetful.cache = Oblivious()
    for seed in range(5):
        cuts = usual(best, seed=seed)
        assert forgetful(best, seed=seed) == cuts == fresh()(best, seed=seed)
    assert len(usual.segmentations) < len(forgetful.segmentations)  # something was remembered
    one(found.encode(["a word", "of another line"]), seed=1)
    assert one(best, seed=4) == cuts


def test_it_forgets_what_would_be_too_much() -> None:
    found = model()
    best = found.encode(LINES * 30)
    usual = SubwordSampler(found.processor, algorithm="bpe", rate=0.4)
    cuts = [usual(best, seed=seed) for seed in range(20)]
    forgetful = SubwordSampler(found.processor, algorithm="bpe", rate=0.4, cache_size=10)
    assert [forgetful(best, seed=seed) for seed in range(20)] == cuts
    assert remembered(forgetful) <= 10 < remembered(usual)


def remembered(sampler: SubwordSampler) -> int:
    return sum(len(cuts) for word in sampler.cache.values() for cuts in word.values())


class Oblivious(dict[int, dict[int, dict[int, int]]]):
    """Remembers nothing."""

    def setdefault(self, key: int, default: dict[int, dict[int, int]] | None = None) -> dict[int, dict[int, int]]:
        return {}


def test_a_word_with_more_merges_than_bits_is_cut_all_the_same() -> None:
    long = SentencePieceTokenizer.learn(["ab" * 400, "a b"], algorithm="bpe", size=266)
    cuts = long.sample(["ab" * 400] * 3, algorithm="bpe", rate=0.5, seed=1)
    assert len({tuple(cut) for cut in cuts}) == 3
    assert {long.decode(cut) for cut in cuts} == {"ab" * 400}
