"""Runs that an earlier version wrote are read, go on with the same batches, and lose as much at the next step.

`stored/` holds two runs of twenty steps, with what that version read and lost next: `expected.json`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit import config
from seqkit.inference.translator import Translator
from seqkit.parallel.processes import Processes
from seqkit.runs.session import train
from seqkit.runs.trained_model import load
from seqkit.storage import checkpoint
from seqkit.tasks import prepare

STORED = Path(__file__).parent / "stored"
EXPECTED: dict[str, dict[str, Any]] = json.loads((STORED / "expected.json").read_text(encoding="utf-8"))

every_run = pytest.mark.parametrize("name", EXPECTED)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stored runs, in the working directory that their recipes mean."""
    shutil.copytree(STORED, tmp_path / "stored")
    monkeypatch.chdir(tmp_path / "stored")
    return tmp_path / "stored"


@every_run
def test_a_stored_run_and_its_model_are_one_model(name: str, folder: Path) -> None:
    run, model = load(folder / name), load(folder / name / "model")
    assert run.facts["step"] == model.facts["step"] == EXPECTED[name]["step"]
    assert run.recipe == model.recipe
    weights, published = run.model.state_dict(), model.model.state_dict()
    assert weights.keys() == published.keys()
    assert all(torch.equal(weights[key], published[key]) for key in weights)


@every_run
def test_the_next_batch_is_the_one_that_came_next(name: str, folder: Path) -> None:
    run, expected = folder / name, EXPECTED[name]
    last, _ = checkpoint.newest(run / "checkpoints")
    assert last is not None
    progress = last.training["progress"]
    task = prepare(config.load(run / "recipe.toml"), run)
    group = next(iter(task.stream(Processes()).groups(progress["epoch"], progress["position"])))
    batch = group.batches[0]
    assert last.training["data"] == task.fingerprint
    assert batch.inputs is not None
    assert batch.inputs.tolist() == expected["inputs"]
    assert batch.targets.ids.tolist() == expected["targets"]
    assert (None if batch.source is None else batch.source.ids.tolist()) == expected["source"]


@every_run
def test_the_next_step_loses_what_it_lost(name: str, folder: Path) -> None:
    """The arithmetic of another machine may differ in the last digits, and no more."""
    run, step = folder / name, EXPECTED[name]["step"] + 1
    train(config.load(run / "recipe.toml", [f"train.steps={step}"]), out=run, device="cpu")
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {event["step"]: event["loss"] for event in events if event["event"] == "step"}
    assert losses[step] == pytest.approx(EXPECTED[name]["loss"], abs=1e-3)


def test_a_stored_model_translates_as_it_did(folder: Path) -> None:
    translator = Translator.load(folder / "translation" / "model", device="cpu")
    texts = [translation.text for translation in translator.translate(["h o u s e", "c a t"])]
    assert texts == EXPECTED["translation"]["text"]
