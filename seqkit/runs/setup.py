"""One process's trainer: wired up from recipe, data, what who starts it asks for, and the last checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

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

__all__ = ["ProcessContext", "StartOptions", "TrainerSetup", "check_resumable", "set_up"]

OnEvent = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True)
class StartOptions:
    """What the person who starts a run wants besides the recipe."""

    request: StopRequest
    allow_data_change: bool
    reset_best: bool
    extend: bool = False  # another limit is accepted where the learning rate falls towards it


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
    # The result of `checkpoint.newest`, where it is known already.
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


def check_resumable(run: Path, task: Task, start: checkpoint.Checkpoint, options: StartOptions) -> None:
    """Refuse to go on from a checkpoint with another text layer, or other data unless that is wished for."""
    if start.codec != task.codecs.target.fingerprint:
        raise ModelError(
            f"{start.path} was trained with another text layer than {run / 'codec'}",
            "put the codec folder back, or start anew with --overwrite",
        )
    if start.training["data"] != task.fingerprint and not options.allow_data_change:
        raise DataError(
            f"the training data changed since step {start.step} of {run}",
            "put the old files back, go on with the new ones by --allow-data-change, or choose another --out",
        )


class TrainerSetup(NamedTuple):
    """A trainer, and where it begins."""

    trainer: Trainer
    start: checkpoint.Checkpoint | None  # the checkpoint that it goes on from
    warnings: list[str]  # what a person should know about that


def set_up(
    context: ProcessContext,
    reporting: Reporting | None,
    *,
    first: Sequence[Callback] = (),
    watching: Sequence[Callback] = (),
) -> TrainerSetup:
    """This process's trainer, restored from the last checkpoint.

    `reporting` is the first process's, the others report nothing; callbacks of `first` are called ahead of all others,
    those of `watching` after the reporting and before what they see is saved.
    Raises ModelError or DataError for a checkpoint that another text layer or other data made.
    """
    recipe, settings, processes, device = context.recipe, context.recipe.train, context.processes, context.device
    _set_host(context)
    model = build_model(recipe, context.task.codecs)
    objective, replica = context.task.objective(model, device), None
    if context.sharded:
        replica = Replica(model, device) if recipe.data.dev else None
        shard(objective, processes, device)
    else:
        model.to(device)
    optimizers = recipe_optimizers(settings, model, processes)
    late = isinstance(settings.optimizer, AveragedSGD)  # its average begins when validation stops improving
    average = Average(model, None if late else settings.average) if late or settings.average else None
    start, warnings = context.before or checkpoint.newest(context.run / "checkpoints")
    progress, same_data, changed = Progress(), True, False
    if start is not None:
        check_resumable(context.run, context.task, start, context.options)
        progress = restore(start, model=model, optimizers=optimizers, average=average)
        same_data = start.training["data"] == context.task.fingerprint
        changed = not same_data or start.training.get("limits") != context.limits
        warnings = [*warnings, *_reopen(progress, context, same_data=same_data)]
    stream = context.task.stream(processes)
    validation = _validation(context, model, replica, average, steps_an_epoch=stream.count(0))
    watchers = [*([] if reporting is None else [reporting]), *watching]
    on_event = _ignore if reporting is None else reporting.on_event
    trainer = Trainer(
        objective=objective,
        optimizers=optimizers,
        schedule=settings.schedule,
        stream=stream,
        callbacks=[
            *first,
            *_before_validation(context, average, on_event, changed=changed),
            *validation,
            *watchers,  # what is saved has been recorded: no validation can be missing from the log
            _saving(context, average, on_event),
        ],
        seed=settings.seed,
        clip=settings.clip,
        processes=processes,
        progress=progress,
        device=device,
        sharded=context.sharded,
    )
    if start is not None and same_data:
        restore_state(start, trainer)
    return TrainerSetup(trainer, start, warnings)


def _set_host(context: ProcessContext) -> None:
    """What holds for the whole process: the arithmetic of products, the heap, the threads."""
    set_float32(context.recipe, context.device)
    if context.device.type != "cpu":
        return
    if context.recipe.train.keep_heap:
        keep_heap()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", context.processes.world))
    torch.set_num_threads(max(1, min(cores() // here, torch.get_num_threads())))


def _validation(
    context: ProcessContext,
    model: nn.Module,
    replica: Replica | None,
    average: Average | None,
    *,
    steps_an_epoch: int,
) -> list[Callback]:
    """The validation, if there is a development set; of a model that is shared out, a whole replica is validated."""
    settings = context.recipe.train
    where = ValidationContext(context.processes, context.device, lambda: context.options.request.reason)
    if replica is None:
        validate = context.task.validator(model, where, average)
    else:
        replica.average = average
        validate = context.task.validator(replica.model, where, replica)
    if validate is None:
        return []
    return [Validation(settings, every=settings.validate_every or min(1000, steps_an_epoch), validate=validate)]


def _before_validation(
    context: ProcessContext, average: Average | None, on_event: OnEvent, *, changed: bool
) -> list[Callback]:
    """Limits and averages; `changed` says whether data or limits changed since the last attempt."""
    settings = context.recipe.train
    callbacks: list[Callback] = [
        StopOnRequest(context.options.request),
        Limits(settings, began=context.began, changed=changed, on_event=on_event),
    ]
    if average is not None:
        callbacks.append(Averaging(average))
        if isinstance(settings.optimizer, AveragedSGD):
            callbacks.append(AveragingTrigger(average, patience=settings.optimizer.patience, metric=settings.metric))
    return callbacks


def _saving(context: ProcessContext, average: Average | None, on_event: OnEvent) -> Saving:
    return Saving(
        context.recipe.train,
        folder=context.run / "checkpoints",
        codec=context.task.codecs.target.fingerprint,
        facts={"data": context.task.fingerprint, "world": context.processes.world, "limits": context.limits},
        average=average,
        request=context.options.request,
        on_event=on_event,
    )


def _reopen(progress: Progress, context: ProcessContext, *, same_data: bool) -> list[str]:
    """Change what a checkpoint says as this attempt wants it; what a person should know of that.

    A run that was complete goes on if its limit was raised or lifted since; no other stop was ever an end.
    """
    notes = []
    if not same_data:
        progress.position = 0
        notes.append(f"the training data changed: epoch {progress.epoch + 1} begins anew with what is there now")
    if context.options.reset_best:
        notes.append(f"the best score so far, {progress.best} at step {progress.best_step}, is forgotten")
        progress.best, progress.best_step, progress.stale = None, None, 0
    settings, stop = context.recipe.train, progress.stop
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


def _ignore(event: str, fields: object) -> None:
    """Processes that are not the first report nothing."""
