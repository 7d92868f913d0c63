"""A line in parts: what is translated at a time, the choice among its hypotheses, and the parts as one translation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from seqkit.inference.glossary import Term, missing_terms
from seqkit.inference.translation import Translation
from seqkit.metrics.sacrebleu_scores import utilities
from seqkit.search.forced_score import ForcedScore
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.minimum_risk import expected_utilities
from seqkit.settings import Search

__all__ = ["SourcePart", "TranslatedPart", "join_parts", "rank"]


class SourcePart(NamedTuple):
    """A line, or a part of one that is too long."""

    ids: list[int]
    prefix: str  # how the translation begins; "" for all parts but the first
    terms: Sequence[Term]


@dataclass(frozen=True)
class TranslatedPart:
    """The hypotheses for one part of a line, best first."""

    ids: tuple[int, ...]  # of the source
    hypotheses: Sequence[Hypothesis]
    terms: Sequence[Term]

    @property
    def best(self) -> Hypothesis:
        """The first of them."""
        return self.hypotheses[0]


def rank(
    hypotheses: Sequence[Hypothesis], terms: Sequence[Term], search: Search, decode: Callable[[Sequence[int]], str]
) -> list[Hypothesis]:
    """The best hypotheses, best first; one with more of the terms in its text comes before others."""
    ranked = list(hypotheses)
    if search.method == "minimum_risk":
        texts = [decode(hypothesis.ids) for hypothesis in ranked]

        def compare(text: str, references: Sequence[str]) -> list[float]:
            return utilities(text, references, utility=search.utility)

        values = dict(zip(texts, expected_utilities(texts, compare), strict=True))
        distinct = dict(zip(reversed(texts), reversed(ranked), strict=True))
        ranked = [replace(distinct[text], score=values[text]) for text in sorted(values, key=values.__getitem__)]
        ranked.reverse()
    if terms:
        ranked.sort(key=lambda hypothesis: len(missing_terms(decode(hypothesis.ids), terms)))
    return ranked[: search.nbest]


def join_parts(
    line: str, parts: Sequence[TranslatedPart], scores: Sequence[ForcedScore], decode: Callable[[Sequence[int]], str]
) -> Translation:
    """The translated parts of a line as one translation, without its alignment."""
    if not parts:
        return Translation(line)
    ranks = range(max(len(part.hypotheses) for part in parts))
    rows = [[part.hypotheses[min(rank, len(part.hypotheses) - 1)] for part in parts] for rank in ranks]
    texts = [" ".join(filter(None, (decode(hypothesis.ids) for hypothesis in row))) for row in rows]
    means = [_mean_score(row) for row in rows]
    best = rows[0]
    segments = tuple((part.ids, hypothesis.ids) for part, hypothesis in zip(parts, best, strict=True))
    return Translation(
        source=line,
        text=texts[0],
        score=means[0],
        log_prob=sum(hypothesis.log_prob for hypothesis in best),
        truncated=any(not hypothesis.finished for hypothesis in best),
        parts=len(parts),
        missing=tuple(term for part in parts for term in missing_terms(texts[0], part.terms)),
        alternatives=tuple(zip(texts[1:], means[1:], strict=True)),
        segments=segments,
        token_scores=tuple(value for score in scores for value in score.log_probs),
    )


def _mean_score(row: Sequence[Hypothesis]) -> float:
    """The mean score of the hypotheses for a line's parts, weighted by their lengths in tokens."""
    if len(row) == 1:
        return row[0].score
    lengths = [len(hypothesis.ids) + hypothesis.finished for hypothesis in row]
    weighted = sum(hypothesis.score * length for hypothesis, length in zip(row, lengths, strict=True))
    return weighted / max(1, sum(lengths))
