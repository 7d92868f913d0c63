"""A labelling task over generated sentences, and a model whose labels differ from token to token."""

from __future__ import annotations

from pathlib import Path

import torch

from seqkit.batch import pad
from seqkit.config import build
from seqkit.data.labelled_text import LabelledText
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.engine.batch_labels import token_ids
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.runs.network import build_model
from seqkit.settings import Recipe
from seqkit.settings.automatic import resolve
from seqkit.tasks import prepare
from seqkit.tasks.labelling_task import LabellingTask
from seqkit.text.vocabulary import EOS

TRAIN = labels_demo.sentences(60, seed=1)


DEV = labels_demo.sentences(12, seed=2)


SMALL_LABELLER = {"kind": "recurrent_labeller", "width": 12, "embedding": 6, "dropout": 0.0}


def labelling_recipe(folder: Path, *overrides: str, train: LabelledText = TRAIN, dev: LabelledText = DEV) -> Recipe:
    for name, text in (("train", train), ("dev", dev)):
        (folder / f"{name}.tsv").write_bytes(text.dump())
    data = {"kind": "labelled", "train": [str(folder / "train.tsv")], "dev": [str(folder / "dev.tsv")]}
    words = {"kind": "words", "split": "spaces", "joint": False, "minimum_count": 2}
    settings = {
        "data": data,
        "text": words,
        "model": SMALL_LABELLER,
        "train": {"steps": 5, "batch_tokens": 256, "processes": 1},
    }
    return resolve(build(settings, where="the test", overrides=overrides))


def prepared_labelling(folder: Path, *overrides: str, **parts: LabelledText) -> tuple[LabellingTask, SequenceLabeller]:
    """A task, and a model with strong random weights: its labels differ from token to token."""
    whole = labelling_recipe(folder, *overrides, **parts)
    task = prepare(whole, folder / "run")
    model = build_model(whole, task.codecs)
    assert isinstance(task, LabellingTask)
    assert isinstance(model, SequenceLabeller)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return task, model.eval()


def labelled_alone(task: LabellingTask, model: SequenceLabeller, sentences: list[list[str]]) -> list[list[str]]:
    """The labels of each sentence in a batch of its own."""
    found = []
    encoded = token_ids(task.codecs.source, sentences)
    for i in range(len(encoded)):
        read = pad([[*encoded[i].tolist(), EOS]])
        found.append(task.codecs.target.tokens(model.predict(read)[0, :-1].tolist()))
    return found
