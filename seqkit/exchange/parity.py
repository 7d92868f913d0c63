"""Comparison of a converted model with ours: translations and log-probabilities of the same sentences.

Sentences are ids without `<s>` and `</s>` throughout, so the comparison does not depend on a text layer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from seqkit.batch import pad
from seqkit.data.corpora import read_pairs
from seqkit.errors import DataError, ModelError
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel
from seqkit.search.beam import beam
from seqkit.search.forced_score import forced_scores
from seqkit.settings import Pairs, Search
from seqkit.text.vocabulary import EOS, UNKNOWN

__all__ = ["LONGEST", "TOLERANCE", "Agreement", "ConvertedModel", "Sentences", "agreement", "sentences_of", "verify"]

SENTENCES = 20
LONGEST = 64  # tokens of a source, and of a translation
TOLERANCE = 1e-3  # nats; two tools that sum in different orders differ by about 1e-5

Sentences = Sequence[Sequence[int]]


class ConvertedModel(Protocol):
    """A converted model as the other tool loads it."""

    def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
        """The likeliest token at each step up to `</s>`, at least the first `longest` of them."""
        ...

    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        """The log-probability of each token of each target and of its `</s>`, in nats."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How far two tools agree on one model."""

    sentences: int
    equal: int  # sentences with the same translation by both
    difference: float  # the largest between the log-probabilities of a token of our translations, in nats

    def __str__(self) -> str:
        alike = f"{self.equal} of {self.sentences} sentences are translated alike"
        return f"{alike}, log-probabilities of tokens differ by {self.difference:.1e} at most"


def sentences_of(loaded: TrainedModel) -> list[list[int]]:
    """Sources for a comparison: the first of the development set, filled up with random ids."""
    codec, data = loaded.codecs.source, loaded.recipe.data
    lines: list[str] = []
    if isinstance(data, Pairs) and data.dev:
        try:
            lines = [line for line in read_pairs(data.dev).source if line.strip()][:SENTENCES]
        except DataError:  # a run may be used without its data
            lines = []
    sources = [ids[:LONGEST] for ids in codec.encode_many(lines) if ids]
    draw = random.Random(SENTENCES)
    while len(sources) < SENTENCES:
        sources.append([draw.randrange(UNKNOWN, len(codec)) for _ in range(draw.randint(1, LONGEST // 4))])
    return sources


def agreement(model: EncoderDecoder, converted: ConvertedModel, sources: Sentences) -> Agreement:
    """Translate greedily with both, and score our translations with both."""
    batch = pad([[*ids, EOS] for ids in sources])
    greedy = Search(beam=1, maximum_length=LONGEST, maximum_extra=LONGEST)
    ours = [list(nbest[0].ids) for nbest in beam(model, batch, greedy)]
    theirs = [ids[:LONGEST] for ids in converted.greedy(sources, LONGEST)]
    scores = [score.log_probs for score in forced_scores(model, batch, ours)]
    differences = [
        abs(our_value - their_value)
        for our_values, their_values in zip(scores, converted.log_probs(sources, ours), strict=True)
        for our_value, their_value in zip(our_values, their_values, strict=True)
    ]
    scores_of_theirs = [score.log_probs for score in forced_scores(model, batch, theirs)]
    equal = sum(map(_equivalent, ours, theirs, scores, scores_of_theirs))
    return Agreement(len(sources), equal, float(np.max(differences)))  # NaN if any of them is


def _equivalent(ours: list[int], theirs: list[int], scores: Sequence[float], scores_of_theirs: Sequence[float]) -> bool:
    """Whether two translations are equal, or first differ in tokens that our model scores within `TOLERANCE`.

    Rounding chooses between such tokens. Scores are those of our model, of the tokens and of `</s>`.
    """
    pairs = zip([*ours, EOS], [*theirs, EOS], scores, scores_of_theirs, strict=False)
    differences = (
        abs(our_score - their_score)
        for our_token, their_token, our_score, their_score in islice(pairs, LONGEST)
        if our_token != their_token
    )
    return next(differences, 0.0) <= TOLERANCE


def verify(result: Agreement, tool: str) -> None:
    """Raise ModelError unless all translations are equal and no log-probability differs by more than `TOLERANCE`."""
    if result.equal < result.sentences or not result.difference <= TOLERANCE:
        raise ModelError(
            f"the converted model is not the same in {tool}: {result}",
            f"nothing was written; try another version of {tool}, and please report it",
        )
