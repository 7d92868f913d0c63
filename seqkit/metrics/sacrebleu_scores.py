"""Scores that sacrebleu computes, through its public interface; no other module imports it.

sacrebleu takes a tenth of a second to import, so each function imports it when it is called. Lines are plain text;
references come as sacrebleu wants them, one list of lines per reference set, and are taken as parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from sacrebleu import BLEU, CHRF, TER
    from sacrebleu.significance import Result

    Scorer = BLEU | CHRF | TER

__all__ = [
    "CorpusScorer",
    "Score",
    "Utility",
    "bleu",
    "bleu_length_ratio",
    "by_sacrebleu",
    "chrf",
    "sentence_chrf",
    "ter",
    "utilities",
]

Utility = Literal["chrf", "bleu"]  # what can say how much two texts resemble each other

# Lines that all resamples together may hold. sacrebleu draws them at once, at up to a hundred bytes a line.
MOST_DRAWN_LINES = 10_000_000
FEWEST_RESAMPLES = 40  # of which the middle 95 % leave out one at each end


@dataclass(frozen=True)
class Score:
    """A corpus score and what is needed to compare it with another.

    The 95 % bootstrap interval is the one that sacrebleu prints: the mean of the resampled corpora's scores, plus and
    minus half the width of their middle 95 %, within the range of the score. Both ends equal `value` without bootstrap.
    """

    name: str  # as sacrebleu calls it: BLEU, chrF2, chrF2++, TER
    value: float  # BLEU and chrF: 0 to 100, higher is better; TER: per cent, lower is better
    low: float
    high: float
    signature: str  # sacrebleu's, of `value`


class CorpusScorer(Protocol):
    """How a corpus is scored."""

    def __call__(
        self,
        hypotheses: Sequence[str],
        references: Sequence[Sequence[str]],
        sources: Sequence[str] | None,
        *,
        resamples: int,
    ) -> Score:
        """Score parallel lines; `sources` are there where the metric needs them. Fewer than two `resamples`: none."""


def by_sacrebleu(scorer: Callable[[], Scorer], *, maximum: float = 100.0) -> CorpusScorer:
    """Score corpora by one of sacrebleu's classes; `maximum` is the highest value that the score can have."""

    def corpus_score(
        hypotheses: Sequence[str],
        references: Sequence[Sequence[str]],
        sources: Sequence[str] | None,
        *,
        resamples: int,
    ) -> Score:
        metric = scorer()
        if resamples < 2:
            score = metric.corpus_score(hypotheses, references)
            value = float(score.score)
            return Score(score.name, value, value, value, str(metric.get_signature()))
        count = min(resamples, max(FEWEST_RESAMPLES, MOST_DRAWN_LINES // len(hypotheses)))
        name, result = _resampled(metric, hypotheses, references, count)
        value, mean, half = float(result.score), float(result.mean or 0.0), float(result.ci or 0.0)
        low, high = max(0.0, mean - half), min(mean + half, max(maximum, value))  # a perfect BLEU is 100 and a rounding
        return Score(name, value, low, high, str(metric.get_signature()))

    return corpus_score


def _resampled(
    metric: Scorer, hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int
) -> tuple[str, Result]:
    """The name of a score, and its value with the mean and half the width of the middle 95 % of `count` resamples.

    This is a paired test of a single system. `corpus_score` draws the same resamples, but gives the mean as a text, and
    none where some of them score exactly 0.
    """
    from sacrebleu.significance import PairedTest, Result

    _, columns = PairedTest([("", hypotheses)], {"": metric}, references, test_type="bs", n_samples=count)()
    [(name, result)] = [(name, cell) for name, [cell] in columns.items() if isinstance(cell, Result)]
    return name, result


def bleu() -> BLEU:
    """BLEU (Papineni et al., 2002) of corpora, with sacrebleu's defaults."""
    from sacrebleu import BLEU

    return BLEU()


def chrf(*, word_order: int = 0) -> CHRF:
    """chrF (Popović, 2015), with n-grams of up to `word_order` words beside those of characters; 2 is chrF++."""
    from sacrebleu import CHRF

    return CHRF(word_order=word_order)


def ter() -> TER:
    """Translation edit rate (Snover et al., 2006), with sacrebleu's defaults."""
    from sacrebleu import TER

    return TER()


def bleu_length_ratio(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Words of the hypotheses to words of the references, as BLEU counts them; 0 if the references have none."""
    return float(bleu().corpus_score(hypotheses, references).ratio)


def sentence_chrf(hypothesis: str, references: Sequence[str]) -> float:
    """The chrF of one line, 0 to 100: that of the best reference."""
    return float(chrf().sentence_score(hypothesis, references).score)


def utilities(hypothesis: str, references: Sequence[str], *, utility: Utility) -> list[float]:
    """How much a text resembles each of several, by sentence chrF or by smoothed sentence BLEU, 0 to 100."""
    from sacrebleu import BLEU

    metric = chrf() if utility == "chrf" else BLEU(effective_order=True)
    return [float(metric.sentence_score(hypothesis, [reference]).score) for reference in references]
