"""One process's trainer: wired up from recipe, data, what who starts it asks for, and the last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from seqkit.errors import DataError, ModelError
from seqkit.parallel.processes import Processes
from seqkit.parallel.sharding import Replica, shard
from seqkit.runs.network import build_model, recipe_optimizers
from seqkit.settings import AveragedSGD, Recipe
from seqkit.storage import checkpoint
from seqkit.system.host import cores, keep_heap
from seqkit.tasks import Task, ValidationContext
from seqkit.training.averaged_sgd import AveragingTrigger
from seqkit.training.callbacks import FINAL, Averaging, Limits, StopOnRequest, StopRequest, Validation, reached
from seqkit.training.moving_average import Average
from seqkit.training.precision import set_float32
from seqkit.training.reporting import Reporting
from seqkit.training.saving import Saving, restore, restore_state
from seqkit.training.trainer import Callback, Progress, Trainer

__all__ = ["ProcessContext", "StartOptions", "check_resumable", "set_up"]


@dataclass(frozen=True)
class StartOptions:
    """What the person who starts a run wants besides the recipe."""

    request: StopRequest
    allow_data_change: bool
    reset_best: bool


@dataclass(frozen=True)
class ProcessContext:
    """What one process needs to take part in an attempt at a run."""

    run: Path
    recipe: Recipe
    task: Task
    device: torch.device
    processes: Processes
    options: StartOptions
    began: float  # when train.minutes began to count, by the monotonic clock
    # What `checkpoint.newest` found, where it was asked already.
    before: tuple[checkpoint.Checkpoint | None, list[str]] | None = None

    @property
    def sharded(self) -> bool:
        """Whether the parameters are shared out; there must be somebody to share with."""
        return self.recipe.train.sharded and self.processes.world > 1

    @property
    def limits(self) -> list[float | None]:
        """What ends the run of its own accord."""
        settings = self.recipe.train
        return [settings.steps, settings.epochs, settings.minutes]


def check_resumable(run: Path, task: Task, found: checkpoint.Checkpoint, options: StartOptions) -> None:
    """Refuse to go on from a checkpoint with another text layer, or other data unless that is wished for."""
    if found.codec != task.codecs.target.fingerprint:
        raise ModelError(
            f"{found.path} was trained with another text layer than {run / 'codec'}",
            "put the codec folder back, or start anew with --overwrite",
        )
    if found.training["data"] != task.fingerprint and not options.allow_data_change:
        raise DataError(
            f"the training data changed since step {found.step} of {run}",
            "put the old files back, go on with the new ones by --allow-data-change, or choose another --out",
        )


def set_up(
    part: ProcessContext, reporting: Reporting | None, before: Sequence[Callback] = ()
) -> tuple[Trainer, checkpoint.Checkpoint | None, list[str]]:
    """The trainer, the checkpoint that it goes on from, and what is to be told about that.

    `reporting` is the first process's, nobody listens to the others; `before` is called ahead of every other callback.
    Raises ModelError or DataError for a checkpoint that another text layer or other data made.
    """
    recipe, settings, processes, device = part.recipe, part.recipe.train, part.processes, part.device
    _set_host(part)
    model = build_model(recipe, part.task.codecs)
    objective, replica = part.task.objective(model, device), None
    if part.sharded:
        replica = Replica(model, device) if recipe.data.dev else None
        shard(objective, processes, device)
    else:
        model.to(device)
    optimizers = recipe_optimizers(settings, model, processes)
    late = isinstance(settings.optimizer, AveragedSGD)  # its average begins when validation stops improving
    average = Average(model, None if late else settings.average) if late or settings.average else None
    found, warnings = part.before or checkpoint.newest(part.run / "checkpoints")
    progress, same, changed = Progress(), True, False
    if found is not None:
        check_resumable(part.run, part.task, found, part.options)
        progress = restore(found, model=model, optimizers=optimizers, average=average)
        same = found.training["data"] == part.task.fingerprint
        changed = not same or found.training.get("limits") != part.limits
        warnings = [*warnings, *_reopen(progress, part, same=same)]
    stream = part.task.stream(processes)
    place = ValidationContext(processes, device, lambda: part.options.request.reason)
    if replica is None:
        validate = part.task.validator(model, place, average)
    else:
        replica.average = average
        validate = part.task.validator(replica.model, place, replica)
    validation: list[Callback] = []
    if validate is not None:
        every = settings.validate_every or min(1000, stream.count(0))
        validation.append(Validation(settings, every=every, validate=validate))
    trainer = Trainer(
        objective=objective,
        optimizers=optimizers,
        schedule=settings.schedule,
        stream=stream,
        callbacks=[*before, *_callbacks(part, average, validation, reporting, changed=changed)],
        seed=settings.seed,
        clip=settings.clip,
        processes=processes,
        progress=progress,
        device=device,
        sharded=part.sharded,
    )
    if found is not None and same:
        restore_state(found, trainer)
    return trainer, found, warnings


def _set_host(part: ProcessContext) -> None:
    """What holds for the whole process: the arithmetic of products, the heap, the threads."""
    set_float32(part.recipe, part.device)
    if part.device.type != "cpu":
        return
    if part.recipe.train.keep_heap:
        keep_heap()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", part.processes.world))
    torch.set_num_threads(max(1, min(cores() // here, torch.get_num_threads())))


def _callbacks(
    part: ProcessContext,
    average: Average | None,
    validation: Sequence[Callback],
    reporting: Reporting | None,
    *,
    changed: bool,
) -> list[Callback]:
    """What happens around the steps, in its order; `changed` says whether data or limits did since the last attempt."""
    settings = part.recipe.train
    on_event = _unheard if reporting is None else reporting.on_event
    callbacks: list[Callback] = [
        StopOnRequest(part.options.request),
        Limits(settings, began=part.began, changed=changed, on_event=on_event),
    ]
    if average is not None:
        callbacks.append(Averaging(average))
        if isinstance(settings.optimizer, AveragedSGD):
            callbacks.append(AveragingTrigger(average, patience=settings.optimizer.patience, metric=settings.metric))
    saving = Saving(
        settings,
        folder=part.run / "checkpoints",
        codec=part.task.codecs.target.fingerprint,
        facts={"data": part.task.fingerprint, "world": part.processes.world, "limits": part.limits},
        average=average,
        request=part.options.request,
        on_event=on_event,
    )
    watching: list[Callback] = [] if reporting is None else [reporting]
    # What is saved has been recorded: no validation can be missing from the log.
    return [*callbacks, *validation, *watching, saving]


def _reopen(progress: Progress, part: ProcessContext, *, same: bool) -> list[str]:
    """Change what a checkpoint says as this attempt wants it; what is to be told of that.

    A run that was complete goes on if its limit was raised or lifted since; no other stop was ever an end.
    """
    notes = []
    if not same:
        progress.position = 0
        notes.append(f"the training data changed: epoch {progress.epoch + 1} begins anew with what is there now")
    if part.options.reset_best:
        notes.append(f"the best score so far, {progress.best} at step {progress.best_step}, is forgotten")
        progress.best, progress.best_step, progress.stale = None, None, 0
    settings, stop = part.recipe.train, progress.stop
    raised = (
        (stop == "steps" and (settings.steps is None or settings.steps > progress.step))
        or (stop == "epochs" and (settings.epochs is None or settings.epochs > progress.epoch + 1))
        or (stop == "minutes" and (settings.minutes is None or settings.minutes * 60 > progress.seconds + 60))
        or (stop == "patience" and (settings.patience is None or settings.patience > progress.stale))
        or (stop == "target" and not reached(settings, progress.best))
    )
    if stop not in FINAL or raised:
        progress.stop, progress.complete = None, False
    return notes


def _unheard(event: str, fields: object) -> None:
    """Nobody listens to the processes that are not the first."""
