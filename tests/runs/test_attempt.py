"""An attempt at a run: what it leaves published, what it leaves alone, and who may watch it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.errors import Interrupted
from seqkit.runs.session import train
from seqkit.runs.trained_model import load
from seqkit.storage import checkpoint
from seqkit.training.trainer import Callback, Trainer, Update, ValidationReport
from tests.support.sessions import (
    contents,
    progress,
    toy_recipe,
)


def test_a_complete_run_is_left_alone(corpus: Path) -> None:
    settings = toy_recipe(corpus, steps=3)
    train(settings, out=corpus / "run", device="cpu")
    before = contents(corpus / "run")
    found = train(settings, out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (3, "steps")
    assert contents(corpus / "run") == before


def test_without_a_development_set_the_last_is_the_best(corpus: Path) -> None:
    train(toy_recipe(corpus, dev=False, steps=3), out=corpus / "run", device="cpu")
    assert load(corpus / "run").facts["step"] == 3
    assert load(corpus / "run" / "model").facts["step"] == 3


def test_no_steps_at_all_give_a_model_too(corpus: Path) -> None:
    found = train(toy_recipe(corpus, dev=False, steps=0), out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (0, "steps")
    assert load(corpus / "run" / "model").facts["step"] == 0


def test_the_published_model_is_the_best_checkpoint(corpus: Path) -> None:
    train(toy_recipe(corpus, validate_every=5, metric="loss", average=0.0), out=corpus / "run", device="cpu")
    best = checkpoint.best(corpus / "run" / "checkpoints")
    assert best is not None
    found = checkpoint.read(checkpoint.step_path(corpus / "run" / "checkpoints", best.step)).tensors("model")
    published = load(corpus / "run" / "model")
    assert published.facts == {"step": best.step, "score": best.score, "metric": "loss"}
    for name, tensor in published.model.named_parameters():
        assert torch.equal(tensor.detach(), found[name])


class Tracker(Callback):
    """Notes what it is told, and wishes to stop at a step."""

    def __init__(self, *, stop_at: int) -> None:
        self.stop_at = stop_at
        self.scores: list[dict[str, float]] = []

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.progress.step == self.stop_at:
            trainer.stop_reason = "enough"

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        self.scores.append(report.scores)


def test_callbacks_of_the_caller_see_a_run_and_may_stop_it(corpus: Path) -> None:
    tracker, run = Tracker(stop_at=5), corpus / "run"
    with pytest.raises(Interrupted, match="enough"):
        train(toy_recipe(corpus, steps=9, validate_every=4), out=run, device="cpu", callbacks=[tracker])
    assert progress(run).step == 6  # all stop together, after the next step
    assert [set(scores) for scores in tracker.scores] == [{"loss", "bleu", "exact"}]
    train(toy_recipe(corpus, steps=9, validate_every=4), out=str(run), device="cpu", callbacks=[tracker])
    assert len(tracker.scores) == 3
