"""Every metric, in one table: settings, validation, callbacks and commands ask it and name none themselves.

To add a metric, add a row to `METRICS`, and what computes it: of translations to `sacrebleu_scores`, of labels to
`label_counts`, or a module of its own that imports no library when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from seqkit.metrics.label_counts import LabelScores
from seqkit.metrics.sacrebleu_scores import CorpusScorer, bleu, by_sacrebleu, chrf, ter

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "LabellingMetric",
    "Metric",
    "TranslationMetric",
    "checkpoint_metrics",
    "labelling_metrics",
    "title_of",
    "translation_metrics",
]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure that says how good a model is; this class itself: one that every validation has, the loss."""

    purpose: ClassVar[Literal["translation", "labelling"] | None] = None  # of which data; None: of all

    name: str  # as settings, commands and logs spell it
    title: str  # as people read it
    higher_is_better: bool
    chooses_checkpoint: bool = False  # whether `train.metric` can be this


@dataclass(frozen=True, kw_only=True)
class TranslationMetric(Metric):
    """A score of translations, computed from plain text."""

    purpose: ClassVar[Literal["translation", "labelling"] | None] = "translation"

    compute: CorpusScorer
    needs_sources: bool = False


@dataclass(frozen=True, kw_only=True)
class LabellingMetric(Metric):
    """A score of labelled text, 0 to 100, which follows from counts; None where its labels do not have it."""

    purpose: ClassVar[Literal["translation", "labelling"] | None] = "labelling"

    compute: Callable[[LabelScores], float | None]


_ROWS = (
    Metric(name="loss", title="loss", higher_is_better=False, chooses_checkpoint=True),
    TranslationMetric(
        name="bleu", title="BLEU", higher_is_better=True, chooses_checkpoint=True, compute=by_sacrebleu(bleu)
    ),
    TranslationMetric(
        name="chrf", title="chrF", higher_is_better=True, chooses_checkpoint=True, compute=by_sacrebleu(chrf)
    ),
    TranslationMetric(
        name="chrf++", title="chrF++", higher_is_better=True, compute=by_sacrebleu(partial(chrf, word_order=2))
    ),
    TranslationMetric(name="ter", title="TER", higher_is_better=False, compute=by_sacrebleu(ter, maximum=float("inf"))),
    LabellingMetric(
        name="accuracy",
        title="accuracy",
        higher_is_better=True,
        chooses_checkpoint=True,
        compute=lambda scores: scores.accuracy,
    ),
    LabellingMetric(
        name="f1", title="F1", higher_is_better=True, chooses_checkpoint=True, compute=lambda scores: scores.f1
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ROWS}

# What `train.metric = "auto"` stands for, by the purpose of the data.
DEFAULT_METRICS = {"translation": "bleu", "language": "loss", "labelling": "f1"}


def checkpoint_metrics(purpose: str | None = None) -> tuple[str, ...]:
    """The names that `train.metric` can have: of data for this purpose, or of any."""
    return tuple(
        name
        for name, metric in METRICS.items()
        if metric.chooses_checkpoint and (purpose is None or metric.purpose in (None, purpose))
    )


def translation_metrics() -> dict[str, TranslationMetric]:
    """The scores of translations by their names."""
    return {name: metric for name, metric in METRICS.items() if isinstance(metric, TranslationMetric)}


def labelling_metrics() -> dict[str, LabellingMetric]:
    """The scores of labelled text by their names."""
    return {name: metric for name, metric in METRICS.items() if isinstance(metric, LabellingMetric)}


def title_of(name: str) -> str:
    """A metric's name as people read it; a name that is not in the table, from a file of another version, as it is."""
    return METRICS[name].title if name in METRICS else name
