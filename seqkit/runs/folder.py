"""A run folder: what is in it, and how it is begun, gone on with and cleared.

run/recipe.toml  codec/  checkpoints/step-00001200/  model/  log.jsonl  status.json  samples.tsv  train.log  lock
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from seqkit import config
from seqkit.errors import ConfigError, ModelError, ResourceError
from seqkit.files import read_plain, recover, remove, replace_file
from seqkit.settings import Recipe
from seqkit.settings.automatic import processes, resolve
from seqkit.settings.schema import rule_of
from seqkit.storage import checkpoint, status
from seqkit.system.host import cores
from seqkit.training.schedule import needs_horizon

__all__ = ["Change", "clear", "out_of", "recipe_of", "record", "replaceable", "settle", "tidy", "trained_recipe"]

RECIPE = "recipe.toml"
LOCK = "lock"

Change = tuple[str, object, object]  # a setting's path, what it was, what it is now


def out_of(recipe: Recipe, out: Path | None) -> Path:
    """The folder of a recipe's run: what the caller says, else the recipe, else runs/NAME.

    Raises ConfigError where that is no name of a folder, or a NAME that leads out of runs.
    """
    if out is None and recipe.out is None and (recipe.name in (".", "..") or set("/\0") & set(recipe.name)):
        raise ConfigError(f"name = {recipe.name[:80]!r} is no name of a folder", "set out, or give --out")
    folder = out or Path(recipe.out or Path("runs") / recipe.name)
    if "\0" in str(folder):
        raise ConfigError(f"out = {str(folder)[:80]!r} is no name of a folder", "it holds a NUL character")
    return folder


def replaceable(run: Path) -> None:
    """Refuse to throw away a folder that is not a run, for the sake of what else might be in it."""
    if not run.is_dir() or (run / RECIPE).exists():
        return
    # All that a refused first start leaves, or a death that comes before the recipe.
    ours = (LOCK, status.NAME, f".{RECIPE}.")
    if not all(entry.name.startswith(ours) for entry in run.iterdir()):
        raise ConfigError(f"{run} holds something that is not a run", "choose another --out")


def clear(run: Path) -> None:
    """Empty a run folder whose lock is held; the lock stays.

    The recipe goes last: as long as anything of the old run is left, one can see that it is a run, and which.
    """
    for entry in sorted(run.iterdir(), key=lambda entry: entry.name == RECIPE):
        if entry.name != LOCK:
            remove(entry)
    if [entry.name for entry in run.iterdir()] != [LOCK]:
        raise ResourceError(f"{run} cannot be emptied", "choose another --out")


def tidy(run: Path) -> None:
    """Clear up after a crash: what was half-written goes, what was being replaced returns.

    Call it with the run's lock held, before anything is looked for.
    """
    checkpoint.clean(run / "checkpoints")
    recover(run, r"recipe\.toml|status\.json|codec|model")
    for name in (".codec.tmp", "model.tmp"):
        remove(run / name)


def settle(run: Path, recipe: Recipe, device: torch.device, *, extend: bool = False) -> tuple[Recipe, list[Change]]:
    """The recipe this run goes by, and what is new in it: resolved at its first start, compared once there is a
    checkpoint.

    Before that nothing is lost by starting anew, so a first start that failed binds nobody. What a later start changes
    is not written down yet: `record` does that, when nothing else speaks against going on.
    """
    path = run / RECIPE
    recipe = resolve(recipe)
    resumed = any((run / "checkpoints").glob("step-*")) and path.exists()
    changes: list[Change] = []
    count = processes(recipe, cores=cores() if device.type == "cpu" else None)
    if resumed:
        first = recipe_of(run)
        count = first.train.processes if isinstance(first.train.processes, int) else count
        if recipe.train.batch_tokens == "auto":
            settled = msgspec.structs.replace(recipe.train, batch_tokens=first.train.batch_tokens)
            recipe = msgspec.structs.replace(recipe, train=settled)
    settings = recipe.train
    if settings.processes == "auto":
        recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(settings, processes=count))
    if resumed:
        changes = config.difference(first, recipe)
        _check(run, recipe, changes, extend=extend)
    else:
        shutil.rmtree(run / "codec", ignore_errors=True)
    limits = {settings.steps, settings.epochs, settings.minutes, settings.patience, settings.target}
    if limits == {None} and recipe.model.trained:
        raise ConfigError("nothing says when to stop", "set train.steps, train.epochs or train.minutes")
    if not resumed:
        record(run, recipe)
    return recipe, changes


def record(run: Path, recipe: Recipe) -> None:
    """Write down what a run goes by."""
    try:
        replace_file(run / RECIPE, config.dump(recipe))
    except OSError as error:
        raise ResourceError(f"cannot write {run / RECIPE}: {error.strerror}", "free some space") from error


def _check(run: Path, recipe: Recipe, changes: Sequence[Change], *, extend: bool) -> None:
    """Refuse to go on with a recipe that means another run, or with another limit for a rate that falls towards it."""
    binding = [change for change in changes if rule_of(change[0]) == "binding"]
    if binding:
        key, old, new = binding[0]
        more = f" (and {len(binding) - 1} more)" if len(binding) > 1 else ""
        raise ConfigError(
            f"{run} was started with {key} = {old}, and now it is {new}{more}",
            "choose another --out, or --overwrite to throw the old run away",
        )
    limits = [change for change in changes if rule_of(change[0]) == "limit"]
    if limits and needs_horizon(recipe.train.schedule) and not extend:
        key, old, new = limits[0]
        raise ConfigError(
            f"{run} was started with {key} = {old}, and now it is {new}, but its learning rate falls towards the limit",
            "--extend goes on all the same: from here the rate is that of the other limit",
        )


def recipe_of(run: Path) -> Recipe:
    """The recipe that a run recorded. Raises ModelError if it is missing or damaged."""
    path = run / "recipe.toml"
    try:
        text = read_plain(path, limit=config.LARGEST_FILE).decode()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", "put the run's recipe back") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is damaged: it is not UTF-8", "put the run's recipe back") from None
    return trained_recipe(text, path)


def trained_recipe(text: str, path: Path) -> Recipe:
    """The recipe of a trained model: one that cannot be read is a fault of the folder, not of who uses it."""
    try:
        return config.read(text, where=str(path))
    except ConfigError as error:
        first, *more = error.what.split("\n")
        raise ModelError(f"{path} cannot be used: {first}" if more else error.what, error.hint) from None
