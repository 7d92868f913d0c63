"""The table of metrics: what it says of each is so, and settings have what it lists."""

from __future__ import annotations

from typing import get_args

import pytest

from seqkit.metrics.label_scores import label_scores
from seqkit.metrics.table import (
    DEFAULT_METRICS,
    METRICS,
    LabellingMetric,
    TranslationMetric,
    checkpoint_metrics,
    labelling_metrics,
    title_of,
    translation_metrics,
)
from seqkit.settings import Purpose, Train, schema
from seqkit.training.callbacks import is_better

REFERENCES = [["the dog sleeps in the park", "a man walks his dog"]]
TRANSLATIONS = (["the dog sleeps in the park", "a man walks"], ["a cat sleeps", "the woman walks"])  # good, bad
RIGHT = [["B-P", "I-P", "O", "B-L"]]
LABELS = ([["B-P", "I-P", "O", "O"]], [["B-P", "O", "O", "O"]])


def test_a_name_is_the_key_of_its_row() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert {**translation_metrics(), **labelling_metrics()}.keys() == METRICS.keys() - {"loss"}


@pytest.mark.parametrize("metric", translation_metrics().values(), ids=translation_metrics())
def test_better_translations_have_a_better_score(metric: TranslationMetric) -> None:
    good, bad = (
        metric.compute(hypotheses, REFERENCES, REFERENCES[0], resamples=0).value for hypotheses in TRANSLATIONS
    )
    assert is_better(good, bad, metric=metric.name)
    assert not is_better(bad, good, metric=metric.name)


@pytest.mark.parametrize("metric", labelling_metrics().values(), ids=labelling_metrics())
def test_better_labels_have_a_better_score(metric: LabellingMetric) -> None:
    good, bad = (metric.compute(label_scores(labels, RIGHT)) for labels in LABELS)
    assert good is not None
    assert bad is not None
    assert is_better(good, bad, metric=metric.name)
    assert not is_better(bad, good, metric=metric.name)


def test_a_lower_loss_is_better() -> None:
    assert is_better(1.0, 2.0, metric="loss")
    assert not is_better(2.0, 1.0, metric="loss")


def test_settings_have_what_the_table_lists() -> None:
    assert set(schema.choices(schema.fields(Train)["metric"].annotation)) == {"auto", *checkpoint_metrics()}
    purposes = get_args(Purpose)
    assert {metric.purpose for metric in METRICS.values()} <= {None, *purposes}
    assert {name for purpose in purposes for name in checkpoint_metrics(purpose)} == set(checkpoint_metrics())
    assert DEFAULT_METRICS.keys() == set(purposes)
    assert all(name in checkpoint_metrics(purpose) for purpose, name in DEFAULT_METRICS.items())


@pytest.mark.parametrize(
    ("purpose", "yes", "no"),
    [
        ("translation", {"loss", "bleu", "chrf"}, {"accuracy", "f1", "ter"}),
        ("language", {"loss"}, {"bleu", "f1"}),
        ("labelling", {"loss", "accuracy", "f1"}, {"bleu", "chrf"}),
    ],
)
def test_a_checkpoint_is_chosen_by_a_score_of_its_purpose(purpose: str, yes: set[str], no: set[str]) -> None:
    assert yes <= set(checkpoint_metrics(purpose))
    assert not no & set(checkpoint_metrics(purpose))


def test_an_unknown_name_is_its_own_title() -> None:
    assert (title_of("chrf++"), title_of("\x1b[2J")) == ("chrF++", "\x1b[2J")
