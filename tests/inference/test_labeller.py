"""A labeller: as many lists as sentences, in their order, a label for each token, read window by window."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.inference import labeller as labeller_module
from seqkit.inference.labeller import Labeller
from seqkit.runs.trained_model import TrainedModel
from seqkit.system.device import CPU
from tests.support.labelling import (
    DEV,
    TRAIN,
    labelled_alone,
    prepared_labelling,
)


def test_a_labeller_answers_each_sentence_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = prepared_labelling(tmp_path)
    labeller = Labeller(TrainedModel(tmp_path, task.recipe, task.codecs, model, {}), device=CPU)
    sentences = [*DEV.tokens, [], ["zzz"], *TRAIN.tokens[:5]]
    expected = labelled_alone(task, model, sentences)
    for window in (1, 4, 2000):
        monkeypatch.setattr(labeller_module, "WINDOW", window)
        assert list(labeller.label(sentences)) == expected
        assert list(labeller.label(" \t".join(tokens) for tokens in sentences)) == expected
    monkeypatch.setattr(labeller_module, "WINDOW", 3)
    waiting = iter(sentences)
    next(labeller.label(waiting))
    assert next(waiting) == sentences[3]
