"""Training a run, step by step: open its folder, prepare what it learns from, attempt to train it to its end."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from seqkit import config
from seqkit.errors import ConfigError, Interrupted, ResourceError
from seqkit.parallel.processes import Processes, connect, launch, sigterm_terminates
from seqkit.runs.attempt import Attempt
from seqkit.runs.batch_size import find_batch_size
from seqkit.runs.folder import Change, clear, out_of, record, replaceable, settle, tidy
from seqkit.runs.ngram_run import fit_ngram
from seqkit.runs.setup import StartOptions, check_resumable
from seqkit.settings import NGram, Recipe
from seqkit.storage import checkpoint, status
from seqkit.storage.journal import Journal
from seqkit.storage.lock import RunLock
from seqkit.system.device import device_of
from seqkit.tasks import Task, prepare
from seqkit.training.callbacks import StopRequest
from seqkit.training.display.progress import Display, Quiet
from seqkit.training.trainer import Callback, Progress

__all__ = ["train"]


def train(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
    allow_data_change: bool = False,
    reset_best: bool = False,
    extend: bool = False,
    callbacks: Sequence[Callback] = (),
    display: Display | None = None,
    request: StopRequest | None = None,
    age: float = 0.0,
) -> Progress:
    """Train a recipe into its run folder, going on from its last checkpoint if there is one.

    With `allow_data_change` a run whose training text has changed begins its epoch anew with the new text; without, it
    is refused. `reset_best` forgets the best score so far and how long ago it was. `extend` accepts another limit where
    the learning rate falls towards it. `callbacks` are called on the first process, after seqkit's own and before what
    they see is saved; one that wants to stop sets `trainer.stop_reason`.
    `request` stops the run from outside; `age` is how many seconds ago `train.minutes` began to count. Returns where
    the run stands when it is complete; a run that was asked to stop raises Interrupted after saving.
    """
    began = time.monotonic() - age
    run, place = out_of(recipe, None if out is None else Path(out)), device_of(device)
    options = StartOptions(request or StopRequest(), allow_data_change, reset_best, extend)
    torch.set_float32_matmul_precision("highest")
    if int(os.environ.get("RANK", "0")) > 0:
        return _follow(run, recipe, place, options, began)
    with contextlib.ExitStack() as stack:
        opened = _open(stack, run, recipe, place, options, display or Quiet(), overwrite=overwrite)
        prepared = _prepare(opened, options)
        model = prepared.recipe.model
        if isinstance(model, NGram):
            return fit_ngram(run, prepared.task, model, opened.display, opened.journal)
        attempt = Attempt(
            run,
            prepared.recipe,
            prepared.task,
            place,
            _gather(stack, opened, prepared, options),
            options,
            began,
            prepared.before,
            opened.changes,
            callbacks,
        )
        return attempt.lead(opened.display, opened.journal, opened.lock)


@dataclass(frozen=True)
class _Opened:
    """A run folder that this process holds."""

    run: Path
    recipe: Recipe  # what the run goes by
    device: torch.device
    changes: list[Change]  # what the last attempt had otherwise
    lock: RunLock
    journal: Journal
    display: Display


def _open(
    stack: contextlib.ExitStack,
    run: Path,
    recipe: Recipe,
    device: torch.device,
    options: StartOptions,
    display: Display,
    *,
    overwrite: bool,
) -> _Opened:
    """Lock the folder, clear it or clear up in it, and settle which recipe the run goes by."""
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    if overwrite:
        replaceable(run)
    _make(run)
    lock = stack.enter_context(RunLock(run))
    if overwrite:
        clear(run)
    tidy(run)
    stack.enter_context(status.reported_attempt(run))
    recipe, changes = settle(run, recipe, device, extend=options.extend)
    journal = Journal(run)
    stack.callback(journal.close)
    stack.callback(display.close)
    if lock.warning is not None:
        display.message(lock.warning)
    return _Opened(run, recipe, device, changes, lock, journal, display)


@dataclass(frozen=True)
class _Prepared:
    """What a run learns from, and where it stands."""

    recipe: Recipe  # with a number for `train.batch_tokens`
    task: Task
    before: tuple[checkpoint.Checkpoint | None, list[str]]  # what `checkpoint.newest` has
    world: int  # processes


def _prepare(opened: _Opened, options: StartOptions) -> _Prepared:
    """Read and encode the text, check it against the last checkpoint, find the batch size, record the recipe."""
    run, recipe = opened.run, opened.recipe
    task = prepare(recipe, run)
    if not recipe.model.trained:
        return _Prepared(recipe, task, (None, []), 1)
    before = checkpoint.newest(run / "checkpoints")
    if before[0] is not None:
        check_resumable(run, task, before[0], options)
    world = int(os.environ.get("WORLD_SIZE", "0")) or int(recipe.train.processes)
    recipe = find_batch_size(recipe, task, opened.device, world)
    record(run, recipe)
    return _Prepared(recipe, replace(task, recipe=recipe), before, world)


def _gather(stack: contextlib.ExitStack, opened: _Opened, prepared: _Prepared, options: StartOptions) -> Processes:
    """Start the other processes, or meet those that torchrun started."""
    run, device = opened.run, opened.device
    if "WORLD_SIZE" not in os.environ:
        words = ["train", str(run / "recipe.toml"), "--out", str(run), "--device", device.type, "--quiet"]
        words += ["--allow-data-change"] * options.allow_data_change + ["--reset-best"] * options.reset_best
        words += ["--extend"] * options.extend
        stack.enter_context(launch(prepared.world if device.type == "cpu" else 1, words))
    elif options.request.reason is not None:  # then the others are gone, see `_follow`
        raise Interrupted(options.request.signal or 2, "stopped before the first step", "the same command begins it")
    processes = connect(device)
    stack.callback(processes.close)
    return processes


def _make(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{run} cannot be a folder: a file stands there", "choose another --out") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # a matter of the words of the command, reported with them
            raise
        raise ResourceError(f"cannot make the folder {run}: {error.strerror}", "choose another --out") from None


def _follow(run: Path, recipe: Recipe, device: torch.device, options: StartOptions, began: float) -> Progress:
    """A process that is not the first: it waits for the first to prepare, then trains along and writes nothing."""
    with sigterm_terminates():
        processes = connect(device)
    try:
        processes.barrier()
        recipe = config.load(run / "recipe.toml")
        return Attempt(run, recipe, prepare(recipe, run), device, processes, options, began).follow()
    finally:
        processes.close()
