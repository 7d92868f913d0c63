"""Corpus scores by sacrebleu, on plain text, each with its signature and a bootstrap interval.

sacrebleu pairs lines with `zip` and would score what is left of a misaligned or transposed corpus; everything is
checked before it is asked. References come as sacrebleu wants them: one list of lines per reference set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqkit.errors import ConfigError, DataError, closest
from seqkit.settings import Utility

if TYPE_CHECKING:  # sacrebleu takes a tenth of a second to import
    from sacrebleu.metrics.base import Metric

__all__ = ["Score", "ScoredLine", "bleu", "corpus_scores", "exact_match", "length_ratio", "utilities", "worst_lines"]

METRICS = ("bleu", "chrf", "chrf++", "ter")
PIECE_MARK = "\u2581"  # what SentencePiece writes for a space


@dataclass(frozen=True)
class Score:
    """A corpus score and what is needed to compare it with another."""

    name: str  # as sacrebleu calls it: BLEU, chrF2, chrF2++, TER
    value: float  # BLEU and chrF: 0 to 100, higher is better; TER: per cent, lower is better
    low: float  # 95 % bootstrap interval; both ends equal `value` without bootstrap
    high: float
    signature: str  # sacrebleu's, of `value`


@dataclass(frozen=True)
class ScoredLine:
    """One line of a corpus with its own score."""

    number: int  # from 1
    score: float  # sentence chrF, 0 to 100
    hypothesis: str
    references: tuple[str, ...]


def corpus_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = ("bleu", "chrf", "ter"),
    bootstrap: int = 1000,
    seed: int = 12345,
) -> list[Score]:
    """Score detokenised lines against one or more reference sets, by each of `metrics` with sacrebleu's defaults.

    `bootstrap` corpora of the same size are drawn with replacement (Koehn, 2004); their middle 95 % is the interval,
    which is sacrebleu's own for the same seed (its default is 12345). 0 draws none.

    Raises DataError for lists that do not match or hypotheses that are still pieces, ConfigError for an unknown metric.
    """
    _check(hypotheses, references)
    scores = []
    for name in metrics:
        metric = _metric(name)
        statistics = metric._extract_corpus_statistics(hypotheses, references)
        result = metric._aggregate_and_compute(statistics)
        value = float(result.score)
        low, high = _interval(metric, statistics, bootstrap, seed) if bootstrap > 0 else (value, value)
        scores.append(Score(result.name, value, low, high, str(metric.get_signature())))
    return scores


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU (Papineni et al., 2002) with sacrebleu's defaults, 0 to 100: the quick figure of a validation.

    Raises DataError as `corpus_scores` does.
    """
    [score] = corpus_scores(hypotheses, references, metrics=("bleu",), bootstrap=0)
    return score.value


def exact_match(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of lines, 0 to 1, that equal one of their references character by character.

    Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    pairs = zip(hypotheses, zip(*references, strict=True), strict=True)
    return sum(hypothesis in own for hypothesis, own in pairs) / len(hypotheses)


def length_ratio(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Words of the hypotheses to words of the references (the closest in length of each line), as BLEU counts them.

    0 if the references have no words. Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    own, other = np.array(_metric("bleu")._extract_corpus_statistics(hypotheses, references))[:, :2].sum(0).tolist()
    return float(own / other) if other else 0.0


def worst_lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int) -> list[ScoredLine]:
    """The `count` lines of lowest sentence chrF (Popović, 2015), worst first, equal ones in their order.

    Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    metric = _metric("chrf")
    statistics = metric._extract_corpus_statistics(hypotheses, references)
    rows = zip(statistics, hypotheses, zip(*references, strict=True), strict=True)
    lines = [
        ScoredLine(number, float(metric._compute_score_from_stats(own).score), hypothesis, others)
        for number, (own, hypothesis, others) in enumerate(rows, start=1)
    ]
    return sorted(lines, key=lambda line: line.score)[: max(0, count)]


def utilities(hypothesis: str, references: Sequence[str], *, utility: Utility) -> list[float]:
    """How much a text resembles each of several, by sentence chrF or by smoothed sentence BLEU, 0 to 100."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF() if utility == "chrf" else BLEU(effective_order=True)
    return [float(metric.sentence_score(hypothesis, [reference]).score) for reference in references]


def _metric(name: str) -> Metric:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    match name:
        case "bleu":
            return BLEU()
        case "chrf":
            return CHRF()
        case "chrf++":
            return CHRF(word_order=2)
        case "ter":
            return TER()
        case _:
            near = closest(name, METRICS)
            raise ConfigError(
                f"{name!r} is no metric", f"did you mean {near!r}?" if near else f"choose from {', '.join(METRICS)}"
            )


def _interval(metric: Metric, statistics: Sequence[Sequence[float]], samples: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of the scores of `samples` resampled corpora; statistics of lines add up to a corpus's."""
    table = np.array(statistics, dtype=np.float64)  # (lines, n)
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(samples):
        weights = np.bincount(generator.choice(len(table), size=len(table)), minlength=len(table))
        scores.append(float(metric._compute_score_from_stats((weights @ table).tolist()).score))
    scores.sort()
    outside = samples // 40
    return scores[outside], scores[-1 - outside]


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not hypotheses:
        raise DataError("there are no lines to score", "give at least one hypothesis and its reference")
    if not references:
        raise DataError("there are no references to score against", "give at least one list of reference lines")
    if isinstance(hypotheses, str) or isinstance(references, str) or any(isinstance(own, str) for own in references):
        raise DataError("a single text stands where a list of lines belongs", "references are a list of lists of lines")
    for number, own in enumerate(references, start=1):
        if len(own) != len(hypotheses):
            transposed = len(references) == len(hypotheses)
            raise DataError(
                f"{len(hypotheses)} hypotheses, but reference {number} has {len(own)} lines",
                "give one list per set of references, not one per line" if transposed else "the files must be parallel",
            )
    for name, lines in (("hypotheses", hypotheses), ("references", references[0])):
        if 2 * sum(PIECE_MARK in line for line in lines) > sum(bool(line) for line in lines):
            raise DataError(f"the {name} are SentencePiece pieces, not text", "decode them before they are scored")
