"""When checkpoints are written, and what is in them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from seqkit.batch import Batch, Padded
from seqkit.errors import DivergenceError, ModelError, ResourceError
from seqkit.parallel.parameters import named_tensors
from seqkit.parallel.shards import full_tensors
from seqkit.settings import Train
from seqkit.state import map_state, tensors_of
from seqkit.storage import checkpoint
from seqkit.storage.manifest import format_size
from seqkit.storage.weights import load_strictly, optimizer_tensors, restore_optimizer
from seqkit.training.callbacks import FINAL, StopRequest
from seqkit.training.moving_average import Average
from seqkit.training.trainer import Callback, Progress, Trainer, Update, ValidationReport

__all__ = ["Saving", "name_best", "restore", "restore_state"]


class Saving(Callback):
    """Writes checkpoints on the first process: at validations or every so many steps or minutes, and at the end.

    A save that fails for want of room is reported and tried again at the next occasion; only the last one must succeed.
    """

    def __init__(
        self,
        settings: Train,
        *,
        folder: Path,
        codec: str,
        facts: Mapping[str, object],
        average: Average | None,
        request: StopRequest,
        on_event: Callable[[str, Mapping[str, object]], None],
    ) -> None:
        """`folder`: where checkpoints go; `facts`: what `restore` checks; `request`: may ask for a save.

        `on_event` hears of saves and failures.
        """
        self.settings = settings
        self.folder = folder
        self.codec = codec
        self.facts = dict(facts)
        self.average = average
        self.request = request
        self.on_event = on_event
        self.saved: int | None = None  # the last step that has a checkpoint
        self.when = time.monotonic()
        self.seconds = 0.0  # what the last save took

    def started(self, trainer: Trainer) -> None:
        """Clear what a crash left behind, and refuse to begin where there is no room to save."""
        if trainer.progress.step:
            self.saved = trainer.progress.step
        if not trainer.processes.first:
            return
        self._make_room(trainer)
        checkpoint.clean(self.folder)

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Save when it is time."""
        every = self.settings.save_every
        due = every is not None and trainer.progress.step % every == 0
        due, self.request.save = due or self.request.save, False
        due = due or time.monotonic() - self.when >= self.settings.save_minutes * 60
        if trainer.processes.broadcast(due) if trainer.sharded else due:  # shares are put together by all, or by none
            self._save(trainer)

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Save what was just scored, and mark it if it is the best."""
        progress = trainer.progress
        best = progress.best_step == progress.step
        if best or self.settings.save_every is None:
            self.saved = None  # a checkpoint of this step would not know the score: its validation was left at first
            self._save(trainer)

    def ended(self, trainer: Trainer) -> None:
        """Save the last state; a failure is an error here."""
        trainer.progress.complete = trainer.progress.stop in FINAL
        self._save(trainer, must=True)

    def _make_room(self, trainer: Trainer) -> None:
        """See that the folder can take what will be saved: a checkpoint, and another one before the first may go."""
        weights = sum(parameter.nbytes for parameter in trainer.objective.model.parameters())
        needed_once = weights * (3 if self.average is None else 4)  # optimizers keep at most two numbers a weight
        needed = needed_once if self.saved else 2 * needed_once
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ResourceError(f"cannot make {self.folder}: {error.strerror}", "choose another --out") from error
        if free < needed:
            raise ResourceError(
                f"no room for checkpoints in {self.folder}: {format_size(needed)} needed, {format_size(free)} free",
                "free some space, or train elsewhere with --out",
            )

    def _save(self, trainer: Trainer, *, must: bool = False) -> None:
        progress = trainer.progress
        self.when = time.monotonic()
        first = trainer.processes.first
        if not first and not trainer.sharded:
            return
        # The last save of a complete run is repeated even at a saved step: it records that the run is over.
        done = self.saved == progress.step and not progress.complete
        if trainer.processes.broadcast(done) if trainer.sharded else done:  # only the first knows which saves failed
            if first:
                name_best(self.folder, progress, metric=self.settings.metric, on_event=self.on_event)
            return
        began = time.monotonic()
        model = full_tensors(named_tensors(trainer.objective.model), keep=first)
        names = {parameter: name for name, parameter in trainer.objective.model.named_parameters()}
        parts = [optimizer_tensors(optimizer, names) for optimizer in trainer.optimizers]
        states = {f"{i}/{name}": tensor for i, (part, _) in enumerate(parts) for name, tensor in part.items()}
        states = full_tensors(states, keep=first)
        average = full_tensors({} if self.average is None else self.average.tensors(), keep=first)
        if not first:
            return
        if not all(bool(tensor.isfinite().all()) for tensor in model.values()):
            raise DivergenceError(  # no step can mend them, and a checkpoint of them would replace a good one
                f"the weights are not finite any more after step {progress.step}",
                "lower train.learning_rate or lengthen the warm-up; the last checkpoint is good",
            )
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": model,
            "average": average,
            "optimizer": states,
            "state": {str(i): tensor for i, tensor in enumerate(tensors_of(trainer.carried))},
        }
        training = {
            "progress": asdict(progress),
            "optimizers": [facts for _, facts in parts],
            "averaged": 0 if self.average is None else self.average.updates,
            **self.facts,
        }
        try:
            checkpoint.save(self.folder, progress.step, tensors=tensors, training=training, codec=self.codec)
        except ResourceError as error:
            if must:
                raise
            self.on_event("warn", {"message": f"{error.what}; trying again at the next save"})
            return
        self.saved = progress.step
        self.seconds = time.monotonic() - began
        name_best(self.folder, progress, metric=self.settings.metric, on_event=self.on_event)
        checkpoint.prune(self.folder, self.settings.keep)
        self.on_event("save", {"step": progress.step, "seconds": round(self.seconds, 3)})


def name_best(
    folder: Path, progress: Progress, *, metric: str, on_event: Callable[[str, Mapping[str, object]], None]
) -> None:
    """Let `best.json` name the best, as soon as its checkpoint stands.

    A death, a full disk or damage may have come between the two: then it is made good here.
    """
    try:
        try:
            marked = checkpoint.best(folder)
        except ModelError as error:
            on_event("warn", {"message": f"{error.what}; written anew"})
            (folder / checkpoint.BEST).unlink()
            marked = None
        if progress.best_step is None or progress.best is None or (marked and marked.step == progress.best_step):
            return
        if checkpoint.verify(checkpoint.step_path(folder, progress.best_step)) is None:
            checkpoint.mark_best(folder, progress.best_step, score=progress.best, metric=metric)
    except OSError as error:
        message = f"cannot write {folder / checkpoint.BEST}: {error.strerror}; trying again at the next save"
        on_event("warn", {"message": message})


def restore_state(start: checkpoint.Checkpoint, trainer: Trainer) -> None:
    """Restore the state of a trainer whose stream carries one from its checkpoint."""
    if not trainer.stream.carries or "state" not in start.stems:
        return
    saved = start.tensors("state")
    tensors = iter([saved[str(i)].to(trainer.device) for i in range(len(saved))])
    with torch.no_grad():  # one token shows what a state of this model looks like
        token = torch.ones(1, 1, dtype=torch.int64, device=trainer.device)
        _, like = trainer.objective(Batch(None, token, Padded(token, token > 0)))
    trainer.resume(map_state(lambda _: next(tensors), like))


def restore(
    start: checkpoint.Checkpoint,
    *,
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Average | None,
) -> Progress:
    """Put a checkpoint's tensors into place and return where the run stood."""
    load_strictly(model, start.tensors("model"))
    names = {parameter: name for name, parameter in model.named_parameters()}
    states = start.tensors("optimizer") if "optimizer" in start.stems else {}
    facts: list[Any] = list(start.training["optimizers"])
    if len(facts) != len(optimizers):
        raise ModelError(f"{start.path} was written with another optimizer", "start anew with --overwrite")
    for index, optimizer in enumerate(optimizers):
        prefix = f"{index}/"
        state = {name.removeprefix(prefix): tensor for name, tensor in states.items() if name.startswith(prefix)}
        restore_optimizer(optimizer, names, tensors=state, facts=facts[index])
    if average is not None and (average.begun or "average" in start.stems):
        average.restore(start.tensors("average"), int(start.training["averaged"]))
    facts_of_run = {"validated": start.step, **start.training["progress"]}  # which older ones lack
    facts_of_run.setdefault("complete", facts_of_run["stop"] in FINAL)
    return msgspec.convert(facts_of_run, Progress)
