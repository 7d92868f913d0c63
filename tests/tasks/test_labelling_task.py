"""Labelled text from files to labels: one id a token, nothing counted at `</s>`, names learnt from what is around."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seqkit.batch import pad
from seqkit.config import build
from seqkit.data.datasets import Encoded
from seqkit.data.labelled_text import LabelledText
from seqkit.data.loading import label_batch
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.engine.batch_labels import label_names, token_ids
from seqkit.errors import ConfigError, DataError
from seqkit.inference.labeller import Labeller
from seqkit.metrics.label_scores import label_scores
from seqkit.parallel.processes import Processes
from seqkit.runs.session import train
from seqkit.settings.automatic import resolve
from seqkit.system.device import CPU
from seqkit.tasks import ValidationContext
from seqkit.text.vocabulary import EOS, PAD, SPECIAL_TOKENS, UNKNOWN
from tests.support.labelling import (
    DEV,
    TRAIN,
    labelled_alone,
    labelling_recipe,
    prepared_labelling,
)

ALONE = ValidationContext(Processes(), CPU)


def plain(text: LabelledText) -> LabelledText:
    """The same sentences with labels that mark no spans."""
    return LabelledText(text.tokens, [[label.replace("-", "") for label in labels] for labels in text.labels])


LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=9)


@given(LENGTHS, st.data())
def test_a_batch_holds_its_sentences_and_counts_nothing_at_their_ends(lengths: list[int], data: st.DataObject) -> None:
    sides = [[data.draw(st.lists(st.integers(4, 99), min_size=n, max_size=n)) for n in lengths] for _ in range(2)]
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1))
    read, wanted = map(Encoded.from_lists, sides)
    batch = label_batch(read, wanted, np.array(chosen, dtype=np.int64))
    assert batch.source is not None
    assert batch.inputs is None
    assert batch.source.ids.shape == batch.targets.ids.shape
    for row, index in enumerate(chosen):
        tokens, labels = (side[index] for side in sides)
        size = len(tokens)
        rest = batch.source.ids.shape[1] - size - 1
        assert batch.source.ids[row].tolist() == [*tokens, EOS] + [PAD] * rest
        assert batch.source.mask[row].tolist() == [True] * (size + 1) + [False] * rest
        assert batch.targets.ids[row].tolist() == [*labels, PAD] + [PAD] * rest
        assert batch.targets.mask[row].tolist() == [True] * size + [False] * (rest + 1)


def test_a_task_is_its_files(tmp_path: Path) -> None:
    task, _ = prepared_labelling(tmp_path)
    assert label_names(task.codecs.target, task.labels) == TRAIN.labels
    assert [len(one) for one in TRAIN.tokens] == task.tokens.lengths.tolist()
    assert (task.tokens.ids == UNKNOWN).any()
    assert set(task.codecs.target.vocabulary.tokens[len(SPECIAL_TOKENS) :]) == set(chain.from_iterable(TRAIN.labels))
    groups = list(task.stream(Processes()).groups(0))
    assert sum(group.tokens for group in groups) == len(task.tokens.ids)
    assert sum(int(batch.targets.mask.sum()) for group in groups for batch in group.batches) == len(task.tokens.ids)
    for part in (
        f"{len(TRAIN)} training sentences",
        f"{len(task.tokens.ids)} tokens",
        "9 labels",
        "12 development",
    ):
        assert part in task.summary
    again, _ = prepared_labelling(tmp_path)
    assert again.fingerprint == task.fingerprint
    (tmp_path / "other").mkdir()
    changed, _ = prepared_labelling(tmp_path / "other", train=LabelledText(TRAIN.tokens[::-1], TRAIN.labels[::-1]))
    assert changed.fingerprint != task.fingerprint


def test_labels_stay_as_they_are_however_rare(tmp_path: Path) -> None:
    text = LabelledText([*TRAIN.tokens, ["Rome"]], [*TRAIN.labels, ["B-\uff23ity"]])
    task, _ = prepared_labelling(tmp_path, "text.normalise=[nfkc,lower]", train=text)
    assert label_names(task.codecs.target, task.labels) == text.labels


def test_what_is_left_out_or_odd_is_told(tmp_path: Path) -> None:
    dev = LabelledText(
        [*DEV.tokens, TRAIN.tokens[0], ["Rome"]],
        [*DEV.labels, TRAIN.labels[0], ["B-CITY"]],
    )
    longest = max(map(len, TRAIN.tokens)) - 1
    task, _ = prepared_labelling(tmp_path, f"data.maximum_length={longest}", dev=dev)
    dropped = sum(len(one) > longest for one in TRAIN.tokens)
    assert task.notes == [
        "1 training sentences also stand in the development set",
        "1 development tokens have labels that are not in the training part",
        f"{dropped} training sentences dropped: too long",
    ]
    assert len(task.tokens) == len(task.labels) == len(TRAIN) - dropped
    with pytest.raises(DataError, match="no usable training sentence"):
        prepared_labelling(tmp_path, "data.maximum_length=1")


def test_a_text_layer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="as the file cuts them"):
        prepared_labelling(tmp_path, "text.split=punctuation")
    prepared_labelling(tmp_path)  # its run keeps a text layer
    with pytest.raises(ConfigError, match="does not know the training label 'BPER'"):
        prepared_labelling(tmp_path, train=plain(TRAIN))


def test_validation_scores_what_the_model_says(tmp_path: Path) -> None:
    task, model = prepared_labelling(tmp_path)
    validate = task.validator(model, ALONE, None)
    assert validate is not None
    report = validate()
    found = labelled_alone(task, model, DEV.tokens)
    scores = label_scores(found, DEV.labels)
    assert report.scores == {"loss": report.tally.loss, "accuracy": scores.accuracy, "f1": scores.f1}
    assert report.signature == scores.signature
    assert report.samples[0] == tuple(" ".join(row) for row in (DEV.tokens[0], DEV.labels[0], found[0]))
    assert len(report.samples) == 3
    nll = 0.0
    tokens, labels = (
        token_ids(task.codecs.source, DEV.tokens),
        token_ids(task.codecs.target, DEV.labels),
    )
    assert len(tokens) == len(labels)
    for i in range(len(tokens)):
        logits = model(pad([[*tokens[i].tolist(), EOS]]))[0, :-1].detach()
        nll += float(F.cross_entropy(logits, torch.from_numpy(labels[i]).long(), reduction="sum"))
    assert int(report.tally.tokens) == sum(map(len, DEV.tokens))
    assert float(report.tally.nll) == pytest.approx(nll, rel=1e-4)


class Partner(Processes):
    """One of three processes, whose sums add what the others had."""

    def __init__(self, rank: int, heard: list[list[torch.Tensor]]) -> None:
        super().__init__(rank, 3)
        self.heard = heard  # of each process, in the order of the sums
        self.said: list[torch.Tensor] = []

    def sum(self, tensor: torch.Tensor) -> None:
        self.said.append(tensor.clone())
        for others in self.heard:
            tensor += others[len(self.said) - 1]


def test_processes_share_out_the_validation(tmp_path: Path) -> None:
    task, model = prepared_labelling(tmp_path)
    expected = task.validator(model, ALONE, None)
    assert expected is not None
    said: list[list[torch.Tensor]] = []
    for rank in range(3):
        partner = Partner(rank, said)
        validate = task.validator(model, ValidationContext(partner, CPU), None)
        assert validate is not None
        report = validate()
        said.append(partner.said)
    shares = [next(each for each in sums if each.is_floating_point()) for sums in said]
    assert all(float(share[2]) > 0 for share in shares)
    assert int(report.tally.tokens) == sum(map(len, DEV.tokens))
    assert report.scores == pytest.approx(expected().scores, rel=1e-5)
    assert report.samples == expected().samples


def test_the_metric_must_be_one_that_the_labels_have(tmp_path: Path) -> None:
    def validated(metric: str, text: LabelledText, dev: LabelledText) -> dict[str, float]:
        task, model = prepared_labelling(tmp_path, f"train.metric={metric}", train=text, dev=dev)
        validate = task.validator(model, ALONE, None)
        assert validate is not None
        return validate().scores

    assert resolve(labelling_recipe(tmp_path)).train.metric == "f1"
    for metric in ("f1", "accuracy", "loss"):
        assert set(validated(metric, TRAIN, DEV)) == {"loss", "accuracy", "f1"}
    (tmp_path / "plain").mkdir()
    tmp_path /= "plain"
    for metric in ("accuracy", "loss"):
        assert set(validated(metric, plain(TRAIN), plain(DEV))) == {"loss", "accuracy"}
    with pytest.raises(ConfigError, match="has no f1: its labels mark no spans") as error:
        validated("f1", plain(TRAIN), plain(DEV))
    assert error.value.hint == "set train.metric=accuracy"


def test_the_loss_leaves_out_what_training_would_leave_out_and_the_scores_do_not(tmp_path: Path) -> None:
    limit = max(map(len, DEV.tokens)) - 1
    task, model = prepared_labelling(tmp_path, f"data.maximum_length={limit}")
    validate = task.validator(model, ALONE, None)
    assert validate is not None
    report = validate()
    assert int(report.tally.tokens) == sum(len(tokens) for tokens in DEV.tokens if len(tokens) <= limit)
    assert f"tokens:{sum(map(len, DEV.tokens))}" in report.signature


def test_without_a_development_set_nothing_is_validated(tmp_path: Path) -> None:
    task, model = prepared_labelling(tmp_path, "data.dev=[]")
    assert task.validator(model, ALONE, None) is None
    assert "no development set" in task.summary


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        {"kind": "recurrent_labeller", "width": 128, "embedding": 64},
        {"kind": "transformer_labeller", "width": 64, "feed_forward": 128, "positions": "rotary", "dropout": 0.0},
    ],
    ids=["recurrent", "transformer"],
)
def test_names_are_learnt_from_what_surrounds_them(
    model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, dev, test = labels_demo.splits()
    settings = msgspec.to_builtins(labelling_recipe(tmp_path, train=text, dev=dev)) | {"model": model}
    settings["train"] = {
        "steps": 350,
        "batch_tokens": 1024,
        "learning_rate": 5e-3,
        "schedule": {"kind": "linear", "warmup": 20},
        "processes": 1,
        "keep_heap": False,
    }
    train(build(settings, where="the test"), out=tmp_path / "run", device="cpu")
    found = list(Labeller.load(tmp_path / "run", device="cpu").label(test.tokens))
    scores = label_scores(found, test.labels)
    assert scores.accuracy > 95
    assert scores.f1 is not None
    assert scores.f1 > 90
