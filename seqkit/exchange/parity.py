"""Is a converted model still the same model? What the other tool makes of the same sentences, token by token.

Sentences are ids without `<s>` and `</s>` throughout, so what is compared does not depend on any text layer.
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

__all__ = ["LONGEST", "TOLERANCE", "Agreement", "Foreign", "Sentences", "agreement", "sentences_of", "verify"]

SENTENCES = 20
LONGEST = 64  # tokens of a sentence that are read, and that are written
TOLERANCE = 1e-3  # nats; two tools that add in another order differ by some 1e-5

Sentences = Sequence[Sequence[int]]


class Foreign(Protocol):
    """A converted model as the other tool has loaded it."""

    def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
        """The likeliest token at each step up to `</s>`; after `longest` tokens it does not matter what follows."""
        ...

    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        """The log-probability of each token of each target and of its `</s>`, in nats."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How far two tools agree about one model."""

    sentences: int
    equal: int  # sentences that both translate alike
    difference: float  # the largest between the log-probabilities of a token of our translations, in nats

    def __str__(self) -> str:
        alike = f"{self.equal} of {self.sentences} sentences are translated alike"
        return f"{alike}, log-probabilities of tokens differ by {self.difference:.1e} at most"


def sentences_of(loaded: TrainedModel) -> list[list[int]]:
    """Sources to compare by: the first of the development set, and random ids in place of those that are missing."""
    codec, data = loaded.codecs.source, loaded.recipe.data
    lines: list[str] = []
    if isinstance(data, Pairs) and data.dev:
        try:
            lines = [line for line in read_pairs(data.dev).source if line.strip()][:SENTENCES]
        except DataError:  # a run may have moved away from its data
            lines = []
    found = [ids[:LONGEST] for ids in codec.encode_many(lines) if ids]
    draw = random.Random(SENTENCES)
    while len(found) < SENTENCES:
        found.append([draw.randrange(UNKNOWN, len(codec)) for _ in range(draw.randint(1, LONGEST // 4))])
    return found


def agreement(model: EncoderDecoder, foreign: Foreign, sources: Sentences) -> Agreement:
    """Translate greedily with both, and score our translations with both."""
    read = pad([[*ids, EOS] for ids in sources])
    greedy = Search(beam=1, maximum_length=LONGEST, maximum_extra=LONGEST)
    ours = [list(found[0].ids) for found in beam(model, read, greedy)]
    theirs = [ids[:LONGEST] for ids in foreign.greedy(sources, LONGEST)]
    scores = [scored.log_probs for scored in forced_scores(model, read, ours)]
    differences = [
        abs(one - other)
        for own, others in zip(scores, foreign.log_probs(sources, ours), strict=True)
        for one, other in zip(own, others, strict=True)
    ]
    scores_of_theirs = [scored.log_probs for scored in forced_scores(model, read, theirs)]
    equal = sum(map(_alike, ours, theirs, scores, scores_of_theirs))
    return Agreement(len(sources), equal, float(np.max(differences)))  # which is not a number if any of them is not


def _alike(ours: list[int], theirs: list[int], scores: Sequence[float], scores_of_theirs: Sequence[float]) -> bool:
    """Whether two translations are one, or part where our model finds both ways equally likely: rounding decides there.

    Scores are our model's, of the tokens and of `</s>`.
    """
    pairs = zip([*ours, EOS], [*theirs, EOS], scores, scores_of_theirs, strict=False)
    parted = (abs(one - other) for mine, their, one, other in islice(pairs, LONGEST) if mine != their)
    return next(parted, 0.0) <= TOLERANCE


def verify(found: Agreement, tool: str) -> None:
    """Raises ModelError unless both translate all sentences alike and no log-probability differs by `TOLERANCE`."""
    if found.equal < found.sentences or not found.difference <= TOLERANCE:
        raise ModelError(
            f"the converted model is not the same in {tool}: {found}",
            f"nothing was written; try another version of {tool}, and please report it",
        )
