"""Fitting a counted model: one pass over the text, one checkpoint, and the published model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from seqkit import config
from seqkit.errors import DataError
from seqkit.models.ngram import NGramModel
from seqkit.parallel.processes import Processes
from seqkit.settings import NGram
from seqkit.storage import checkpoint
from seqkit.storage.journal import Journal
from seqkit.storage.model_folder import published_step, write_model
from seqkit.storage.status import read
from seqkit.tasks import Task, ValidationContext
from seqkit.tasks.language_task import LanguageTask, sequences
from seqkit.training.display.progress import Display
from seqkit.training.trainer import Progress

__all__ = ["fit_ngram"]

STEP = 1  # counting is a run of one step


def fit_ngram(run: Path, task: Task, settings: NGram, display: Display, journal: Journal) -> Progress:
    """Count the text of a run, validate, save and publish; a run that has been counted stays as it is."""
    if not isinstance(task, LanguageTask):
        raise TypeError("n-grams are counted in text")
    folder = run / "checkpoints"
    last, _ = checkpoint.newest(folder)
    if last is not None:
        if last.training["data"] != task.fingerprint:
            raise DataError(f"the training data of {run} changed since it was counted", "start anew with --overwrite")
        best = last.training["progress"]["best"]
        if published_step(run / "model") != STEP:  # it died behind its checkpoint
            if best is not None:
                checkpoint.mark_best(folder, STEP, score=best, metric="loss")
            _publish(run, task, last.tensors("model"), best)
        display.message(f"{run} is already complete")
        if (ending := read(run)) is None or ending.state != "done":
            _done(journal, best)
        return Progress(step=STEP, stop="steps")
    journal.status({"state": "running", "step": 0}, force=True)
    began = time.monotonic()
    display.started([f"data: {task.summary}", *(f"      {note}" for note in task.notes)])
    journal.write("start", {"step": 0, "torch": torch.__version__, "data": task.fingerprint, "world": 1})
    model = NGramModel.fit(settings, sequences(task), vocabulary=len(task.codecs.target))
    grams = ", ".join(f"{number:,} {name}" for name, number in model.facts.items())
    display.message(f"model: {grams}")
    progress = Progress(step=STEP, epoch=1, seconds=time.monotonic() - began, stop="steps")
    validate = task.validator(model, ValidationContext(Processes(), torch.device("cpu")), None)
    report = None if validate is None else validate()
    if report is not None:
        progress.best, progress.best_step = report.tally.loss, STEP
        figures = {"loss": report.tally.loss, "ppl": report.tally.perplexity, "tokens": int(report.tally.tokens)}
        journal.write("valid", {"step": STEP, **figures})
        display.message(f"dev_ppl={report.tally.perplexity:.4f} a token ({int(report.tally.tokens)} tokens)")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.clean(folder)
    tensors = model.tensors()
    checkpoint.save(
        folder,
        STEP,
        tensors={"model": tensors},
        training={"progress": asdict(progress), "data": task.fingerprint},
        codec=task.codecs.target.fingerprint,
    )
    if progress.best is not None:
        checkpoint.mark_best(folder, STEP, score=progress.best, metric="loss")
    _publish(run, task, tensors, progress.best)
    journal.write("end", {"step": STEP, "reason": "counted", "seconds": progress.seconds})
    _done(journal, progress.best)
    return progress


def _publish(run: Path, task: Task, tensors: Mapping[str, Tensor], best: float | None) -> None:
    facts = {"step": STEP, "score": best, "metric": "loss"}
    recipe = config.dump(task.recipe)
    write_model(run / "model", recipe=recipe, codec_folder=run / "codec", tensors=tensors, facts=facts)


def _done(journal: Journal, best: float | None) -> None:
    ended = {"message": "counted", "exit_code": 0}
    journal.status({"state": "done", "step": STEP, "best": best, "best_step": STEP, **ended}, force=True)
