"""A trained model is read from a run, as its best checkpoint that is whole, or from a published folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from seqkit.errors import ModelError
from seqkit.parallel.parameters import named_tensors
from seqkit.runs.trained_model import load
from seqkit.storage import checkpoint


def value_of(path: Path) -> float:
    """What stands in all weights of a model."""
    [value] = {value for tensor in named_tensors(load(path).model).values() for value in tensor.flatten().tolist()}
    return float(value)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run whose weights are all 1, 2 and 3 at steps 1, 2 and 3, the second of which is the best."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    names = named_tensors(load(trained).model)
    for step in (1, 2, 3):
        tensors = {name: torch.full_like(tensor, step) for name, tensor in names.items()}
        checkpoint.save(run / "checkpoints", step, tensors={"model": tensors}, training={}, codec="codec")
    checkpoint.mark_best(run / "checkpoints", 2, score=41.5, metric="bleu")
    return run


def test_the_best_checkpoint_is_taken_and_known_by_its_score(run: Path) -> None:
    assert value_of(run) == 2
    assert load(run).facts == {"step": 2, "score": 41.5, "metric": "bleu"}


def test_where_the_best_is_damaged_the_newest_is_taken_and_has_no_score(run: Path) -> None:
    (run / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    assert value_of(run) == 3
    assert load(run).facts == {"step": 3, "score": None, "metric": None}


def test_an_average_is_taken_before_the_weights(run: Path) -> None:
    names = named_tensors(load(run).model)
    stems = {
        stem: {name: torch.full_like(tensor, value) for name, tensor in names.items()}
        for stem, value in (("model", 7.0), ("average", 8.0))
    }
    checkpoint.save(run / "checkpoints", 4, tensors=stems, training={}, codec="codec")
    checkpoint.mark_best(run / "checkpoints", 4, score=42.0, metric="bleu")
    assert value_of(run) == 8


def test_a_run_and_its_published_folder_are_one_model_in_evaluation_mode(trained: Path) -> None:
    run, folder = load(trained), load(trained / "model")
    assert run.recipe == folder.recipe
    assert run.facts == folder.facts
    assert run.codecs.target.fingerprint == folder.codecs.target.fingerprint
    assert not run.model.training
    torch.testing.assert_close(named_tensors(run.model), named_tensors(folder.model), rtol=0, atol=0)


def test_a_model_says_what_it_is_for_and_which_command_uses_it(trained: Path) -> None:
    model = load(trained)
    assert model.purpose == "translation"
    model.require("translation")
    with pytest.raises(ModelError, match="holds no labelling model") as caught:
        model.require("labelling")
    assert caught.value.hint == f"seqkit translate {trained} uses it"


def test_what_is_no_model_is_refused_and_a_near_name_suggested(run: Path) -> None:
    for path in (run.parent, run.parent / "none"):
        with pytest.raises(ModelError):
            load(path)
    with pytest.raises(ModelError, match="is not a model folder") as caught:
        load(run.parent / "rnu")
    assert caught.value.hint == f"did you mean {run}?"
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="has no checkpoint yet"):
        load(run)
