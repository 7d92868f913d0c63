"""Training a run: one attempt of one process, from the recipe to the published model."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from seqkit import config
from seqkit.errors import BusyError, ConfigError, Interrupted, ResourceError, SeqkitError
from seqkit.parallel.processes import connect, launch, sigterm_ends
from seqkit.parallel.shards import local
from seqkit.runs.batch_size import find_batch_size
from seqkit.runs.folder import Change, clear, out_of, record, replaceable, settle, tidy
from seqkit.runs.ngram_run import fit_ngram
from seqkit.runs.setup import ProcessContext, StartOptions, check_resumable, set_up
from seqkit.settings import NGram, Pairs, Recipe
from seqkit.storage import checkpoint, status
from seqkit.storage.journal import Journal
from seqkit.storage.lock import RunLock
from seqkit.storage.manifest import size_of
from seqkit.storage.model_folder import published_step, write_model
from seqkit.system.device import device_of
from seqkit.tasks import prepare
from seqkit.training.callbacks import FINAL, LockGuard, StopRequest
from seqkit.training.display.progress import Display, Quiet
from seqkit.training.precision import precision_of
from seqkit.training.reading import TIGHT, too_large
from seqkit.training.reporting import About, Reporting
from seqkit.training.saving import name_best
from seqkit.training.trainer import Progress, Trainer

__all__ = ["train"]


def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    allow_data_change: bool = False,
    reset_best: bool = False,
    extend: bool = False,
    display: Display | None = None,
    request: StopRequest | None = None,
    age: float = 0.0,
) -> Progress:
    """Train a recipe into its run folder, going on from its last checkpoint if there is one.

    With `allow_data_change` a run whose training text has changed begins its epoch anew with the new text; without, it
    is refused. `reset_best` forgets the best score so far and how long ago it was. `extend` accepts another limit where
    the learning rate falls towards it.
    `request` stops the run from outside; `age` is how many seconds ago `train.minutes` began to count. Returns where
    the run stands when it is complete; a run that was asked to stop raises Interrupted after saving.
    """
    began = time.monotonic() - age
    run = out_of(recipe, out)
    place = device_of(device)
    torch.set_float32_matmul_precision("highest")
    if int(os.environ.get("RANK", "0")) > 0:
        return _follow(run, recipe, place, StartOptions(request or StopRequest(), allow_data_change, reset_best), began)
    shown = display or Quiet()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        if overwrite:
            replaceable(run)
        _make(run)
        lock = stack.enter_context(RunLock(run))
        if overwrite:
            clear(run)
        tidy(run)
        stack.enter_context(status.reported_attempt(run))
        recipe, changes = settle(run, recipe, place, extend=extend)
        journal = Journal(run)
        stack.callback(journal.close)
        stack.callback(shown.close)
        if lock.warning is not None:
            shown.message(lock.warning)
        task = prepare(recipe, run)
        if isinstance(recipe.model, NGram):
            return fit_ngram(run, task, recipe.model, shown, journal)
        options = StartOptions(request or StopRequest(), allow_data_change, reset_best)
        before = checkpoint.newest(run / "checkpoints")
        if before[0] is not None:
            check_resumable(run, task, before[0], options)
        world = int(os.environ.get("WORLD_SIZE", "0")) or int(recipe.train.processes)
        recipe = find_batch_size(recipe, task, place, world)
        task = replace(task, recipe=recipe)
        record(run, recipe)
        if "WORLD_SIZE" not in os.environ:
            words = ["train", str(run / "recipe.toml"), "--out", str(run), "--device", place.type, "--quiet"]
            words += ["--allow-data-change"] * allow_data_change + ["--reset-best"] * reset_best
            words += ["--extend"] * extend
            stack.enter_context(launch(world if place.type == "cpu" else 1, words))
        elif options.request.reason is not None:  # then the others are gone, see `_follow`
            raise Interrupted(
                options.request.signal or 2, "stopped before the first step", "the same command begins it"
            )
        processes = connect(place)
        stack.callback(processes.close)
        session = _Session(run, recipe, task, place, processes, options, began, before, changes)
        return session.lead(shown, journal, lock)


def _make(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{run} cannot be a folder: a file stands there", "choose another --out") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a matter of the words of the command, told with them
            raise
        raise ResourceError(f"cannot make the folder {run}: {error.strerror}", "choose another --out") from None


def _follow(run: Path, recipe: Recipe, device: torch.device, options: StartOptions, began: float) -> Progress:
    """A process that is not the first: it waits for the first to prepare, then trains along and writes nothing."""
    with sigterm_ends():
        processes = connect(device)
    try:
        processes.barrier()
        recipe = config.load(run / "recipe.toml")
        return _Session(run, recipe, prepare(recipe, run), device, processes, options, began).follow()
    finally:
        processes.close()


@dataclass(frozen=True)
class _Session(ProcessContext):
    """One process's part in one attempt at a run, from its first barrier to the published model."""

    changes: Sequence[Change] = ()  # what the last attempt had otherwise

    def lead(self, display: Display, journal: Journal, lock: RunLock) -> Progress:
        """The first process: also reports, saves and publishes the model."""
        self.processes.barrier()  # the others may read what was prepared
        reporting = Reporting(display=display, journal=journal, about=self._about())
        trainer, found, warnings = set_up(self, reporting, [LockGuard(lock)])
        for warning in warnings:
            reporting.on_event("warn", {"message": warning})
        progress = trainer.progress
        if progress.complete:
            self.processes.broadcast(False)
            self._complete(trainer, found, reporting)
            display.message(f"{self.run} is already complete: {progress.step} steps ({progress.stop})")
            return progress
        self.processes.broadcast(True)
        used = trainer.rehearse()
        display.started(self._summary(trainer, found, used))
        journal.write("resume" if found else "start", self._facts(trainer, found))
        try:
            trainer.run()
            self.processes.barrier()  # nobody leaves while another still waits for an exchange to end
            self._publish(trainer)
        except BusyError:  # what is recorded in the folder is another's now
            raise
        except BaseException as error:
            reporting.failed(progress, error)
            raise
        if progress.stop in FINAL:
            reporting.finished(progress)
            return progress
        ending: SeqkitError = Interrupted(
            self.options.request.signal or 2,
            f"stopped at step {progress.step} ({progress.stop}), all saved",
            "the same command goes on from there",
        )
        if progress.stop == "memory":
            ending = too_large(f"more than {TIGHT:.0%} of the steps did not fit; all is saved")
        reporting.finished(progress, ending)
        raise ending

    def follow(self) -> Progress:
        """Any other process."""
        trainer, _, _ = set_up(self, None)
        if self.processes.broadcast(None):
            trainer.rehearse()
            trainer.run()
            self.processes.barrier()
        return trainer.progress

    def _about(self) -> About:
        settings = self.recipe.train
        precision = precision_of(self.recipe, self.device)
        words = "bf16" if precision.layers == torch.bfloat16 else "fp32"
        if settings.precision == "tf32" and self.device.type == "cuda":
            words = "tf32"
        if precision.output == torch.bfloat16 and precision.layers != torch.bfloat16:
            words += ", bf16 output"
        world = self.processes.world
        return About(
            run=str(self.run),
            model=msgspec.to_builtins(self.recipe.model)["kind"],
            device=f"{self.device.type} x{world}" if world > 1 else self.device.type,
            precision=words,
            metric=settings.metric,
            epochs=settings.epochs,
            minutes=settings.minutes,
        )

    def _summary(self, trainer: Trainer, found: checkpoint.Checkpoint | None, used: int) -> list[str]:
        task, settings, model = self.task, self.recipe.train, trainer.objective.model
        size = sum(parameter.numel() for parameter in model.parameters())
        groups = trainer.stream.count(0)
        lines = [
            f"data: {task.summary}",
            *(f"      {note}" for note in task.notes),
            f"text: {self.recipe.text.__class__.__name__}, {len(task.codecs.target)} tokens"
            + (", joint" if task.codecs.joint and isinstance(self.recipe.data, Pairs) else ""),
            f"model: {self._about().model}, {size:,} parameters",
            f"batches: {settings.budget} target tokens x {settings.accumulate}, {groups} steps an epoch",
            f"device: {self._about().device}, {torch.get_num_threads()} threads a process, {self._about().precision}",
            f"memory: {size_of(used)} a process after the largest batch, {self._room()}",
        ]
        lines += [f"changed since: {key} = {old} -> {new}" for key, old, new in self.changes]
        if self.sharded:
            share = sum(local(parameter).numel() for parameter in model.parameters())
            lines.append(f"sharded: {share:,} parameters on this process, the whole model while it validates")
        if found is not None:
            lines.insert(0, f"resuming {self.run} at step {found.step} (epoch {trainer.progress.epoch + 1})")
        return lines

    def _room(self) -> str:
        free = shutil.disk_usage(self.run).free
        if self.device.type != "cuda":
            return f"{size_of(free)} free on the disk"
        total = torch.cuda.get_device_properties(self.device).total_memory
        return f"of {size_of(total)}; {size_of(free)} free on the disk"

    def _facts(self, trainer: Trainer, found: checkpoint.Checkpoint | None) -> dict[str, object]:
        return {
            "step": trainer.progress.step,
            "torch": torch.__version__,
            "device": self.device.type,
            "world": self.processes.world,
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in trainer.objective.parameters()),
            "data": self.task.fingerprint,
            "codec": self.task.codecs.target.fingerprint,
            "from": None if found is None else found.path.name,
            "changed": {key: [old, new] for key, old, new in self.changes},
        }

    def _complete(self, trainer: Trainer, found: checkpoint.Checkpoint | None, reporting: Reporting) -> None:
        """Do for a complete run what a death after its last save left undone."""
        folder, metric = self.run / "checkpoints", self.recipe.train.metric
        name_best(folder, trainer.progress, metric=metric, on_event=reporting.on_event)
        best = checkpoint.best(folder)
        step = trainer.progress.step if best is None else best.step
        published = published_step(self.run / "model")
        told = status.read(self.run)
        if published == step and told is not None and told.state == "done":
            return
        reporting.journal.write("resume", self._facts(trainer, found))
        checkpoint.prune(self.run / "checkpoints", self.recipe.train.keep)
        if published != step:
            self._publish(trainer)
        reporting.finished(trainer.progress)

    def _publish(self, trainer: Trainer) -> None:
        """Write `model/` from the best checkpoint, or from the last where nothing was validated."""
        folder = self.run / "checkpoints"
        best = checkpoint.best(folder)
        chosen = checkpoint.read(checkpoint.step_path(folder, trainer.progress.step if best is None else best.step))
        tensors = chosen.tensors("average" if "average" in chosen.stems else "model")
        facts = {"step": chosen.step, "score": None if best is None else best.score, "metric": self.recipe.train.metric}
        recipe = config.dump(self.recipe)
        write_model(self.run / "model", recipe=recipe, codec_folder=self.run / "codec", tensors=tensors, facts=facts)
