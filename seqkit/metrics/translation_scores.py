"""Scores of translations on plain text, each with its signature and a bootstrap interval.

sacrebleu pairs lines with `zip` and would score what is left of a misaligned or transposed corpus; everything is
checked before it is asked. References come as sacrebleu wants them: one list of lines per reference set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqkit.errors import ConfigError, DataError, closest
from seqkit.metrics.sacrebleu_scores import Score, bleu_length_ratio, sentence_chrf
from seqkit.metrics.table import TranslationMetric, translation_metrics

__all__ = ["ScoredLine", "corpus_scores", "exact_match", "length_ratio", "select", "worst_lines"]

PIECE_MARK = "\u2581"  # what SentencePiece writes for a space


@dataclass(frozen=True)
class ScoredLine:
    """One line of a corpus with its own score."""

    number: int  # from 1
    score: float  # sentence chrF, 0 to 100
    hypothesis: str
    references: tuple[str, ...]


def select(names: Iterable[str], *, with_sources: bool) -> list[TranslationMetric]:
    """The metrics with these names.

    Raises ConfigError for a name that is no score of translations, and for one that needs sources where there are none.
    """
    metrics = translation_metrics()
    selected = []
    for name in names:
        if name not in metrics:
            near = closest(name, metrics)
            hint = f"did you mean {near!r}?" if near else f"choose from {', '.join(metrics)}"
            raise ConfigError(f"{name!r} is no metric", hint)
        if metrics[name].needs_sources and not with_sources:
            raise ConfigError(
                f"{metrics[name].title} needs the sources of the translations", "score a model on a test set"
            )
        selected.append(metrics[name])
    return selected


def corpus_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    sources: Sequence[str] | None = None,
    metrics: Sequence[str] = ("bleu", "chrf", "ter"),
    resamples: int = 1000,
) -> list[Score]:
    """Score detokenised lines against one or more reference sets, by each of `metrics` with its defaults.

    `resamples` corpora of the same size are drawn with replacement for the interval (Koehn, 2004); 0 draws none. They
    are sacrebleu's own: the same ones each time, unless the environment has another SACREBLEU_SEED than its default,
    12345; and fewer of them for corpora of more than 10,000 lines, which would not fit into memory so many times.

    Raises DataError for lists that do not match or hypotheses that are still pieces, ConfigError as `select` does.
    """
    _check(hypotheses, references, sources)
    selected = select(metrics, with_sources=sources is not None)
    return [metric.compute(hypotheses, references, sources, resamples=resamples) for metric in selected]


def exact_match(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The share of lines, 0 to 1, that equal one of their references character by character.

    Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    rows = zip(hypotheses, zip(*references, strict=True), strict=True)
    return sum(hypothesis in right for hypothesis, right in rows) / len(hypotheses)


def length_ratio(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Words of the hypotheses to words of the references (the closest in length of each line), as BLEU counts them.

    0 if the references have no words. Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    return bleu_length_ratio(hypotheses, references)


def worst_lines(hypotheses: Sequence[str], references: Sequence[Sequence[str]], count: int) -> list[ScoredLine]:
    """The `count` lines of lowest sentence chrF (Popović, 2015), worst first, equal ones in their order.

    Raises DataError as `corpus_scores` does.
    """
    _check(hypotheses, references)
    rows = enumerate(zip(hypotheses, zip(*references, strict=True), strict=True), start=1)
    lines = [ScoredLine(number, sentence_chrf(line, right), line, right) for number, (line, right) in rows]
    return sorted(lines, key=lambda line: line.score)[: max(0, count)]


def _check(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None = None
) -> None:
    if not hypotheses:
        raise DataError("there are no lines to score", "give at least one hypothesis and its reference")
    if not references:
        raise DataError("there are no references to score against", "give at least one list of reference lines")
    if any(isinstance(lines, str) for lines in (hypotheses, references, sources, *references)):
        raise DataError("a single text stands where a list of lines belongs", "references are a list of lists of lines")
    for number, lines in enumerate(references, start=1):
        if len(lines) != len(hypotheses):
            transposed = len(references) == len(hypotheses)
            raise DataError(
                f"{len(hypotheses)} hypotheses, but reference {number} has {len(lines)} lines",
                "give one list per set of references, not one per line" if transposed else "the files must be parallel",
            )
    if sources is not None and len(sources) != len(hypotheses):
        raise DataError(f"{len(hypotheses)} hypotheses, but {len(sources)} sources", "the files must be parallel")
    for name, lines in (("hypotheses", hypotheses), ("references", references[0])):
        if 2 * sum(PIECE_MARK in line for line in lines) > sum(bool(line) for line in lines):
            raise DataError(f"the {name} are SentencePiece pieces, not text", "decode them before they are scored")
