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
from seqkit.settings import NGram
from seqkit.tasks import Place, Task
from seqkit.tasks.language import Language, sequences
from seqkit.train import checkpoint
from seqkit.train.distributed import Processes
from seqkit.train.journal import Journal
from seqkit.train.model_folder import published_step, write_model
from seqkit.train.progress import Display
from seqkit.train.trainer import Progress

__all__ = ["count"]

STEP = 1  # counting is a run of one step


def count(run: Path, task: Task, settings: NGram, display: Display, journal: Journal) -> Progress:
    """Count the text of a run, validate, save and publish; a run that has been counted stays as it is."""
    if not isinstance(task, Language):
        raise TypeError("n-grams are counted in text")
    folder = run / "checkpoints"
    found, _ = checkpoint.newest(folder)
    if found is not None:
        if found.training["data"] != task.fingerprint:
            raise DataError(f"the training data of {run} changed since it was counted", "start anew with --overwrite")
        if published_step(run / "model") != STEP:  # it died behind its checkpoint
            best = found.training["progress"]["best"]
            if best is not None:
                checkpoint.mark_best(folder, STEP, score=best, metric="loss")
            _publish(run, task, found.tensors("model"), best)
        display.message(f"{run} is already complete")
        return Progress(step=STEP, stop="steps")
    began = time.monotonic()
    display.started([f"data: {task.summary}", *(f"      {note}" for note in task.notes)])
    journal.write("start", {"step": 0, "torch": torch.__version__, "data": task.fingerprint, "world": 1})
    model = NGramModel.fit(settings, sequences(task), vocabulary=len(task.codecs.target))
    grams = ", ".join(f"{number:,} {name}" for name, number in model.facts.items())
    display.message(f"model: {grams}")
    progress = Progress(step=STEP, epoch=1, seconds=time.monotonic() - began, stop="steps")
    validate = task.validator(model, Place(Processes(), torch.device("cpu")), None)
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
    journal.status({"state": "done", "step": STEP, "best": progress.best, "best_step": STEP}, force=True)
    return progress


def _publish(run: Path, task: Task, tensors: Mapping[str, Tensor], score: float | None) -> None:
    facts = {"step": STEP, "score": score, "metric": "loss"}
    recipe = config.dump(task.recipe)
    write_model(run / "model", recipe=recipe, codec_folder=run / "codec", tensors=tensors, facts=facts)
