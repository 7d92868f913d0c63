"""A run folder: what is in it, how it is begun, how its model is read.

run/recipe.toml  codec/  checkpoints/step-00001200/  model/  log.jsonl  status.json  samples.tsv  train.log  lock
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from seqkit import config
from seqkit.assemble import AnyModel, load_model, processes_on, resolve
from seqkit.errors import ConfigError, ModelError, ResourceError, closest
from seqkit.files import read_plain, recover, remove, replace_file
from seqkit.settings import NGram, Recipe
from seqkit.settings.resuming import rule_of
from seqkit.text.codec import Codecs
from seqkit.train import checkpoint, status
from seqkit.train.model_folder import read_model
from seqkit.train.schedule import needs_horizon

__all__ = [
    "CPU",
    "Change",
    "Loaded",
    "clear",
    "device_of",
    "load",
    "out_of",
    "record",
    "replaceable",
    "settle",
    "tidy",
]

CPU = torch.device("cpu")
RECIPE = "recipe.toml"
LOCK = "lock"

Change = tuple[str, object, object]  # a setting's path, what it was, what it is now


def device_of(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises ConfigError for what is neither the CPU nor a GPU that is there.

    On a GPU float32 is exact afterwards.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):  # torch knows many more, and fails late where they are not
        raise ConfigError(f"unknown device {name[:40]!r}", "use auto, cpu, cuda or cuda:1")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError("this torch sees no GPU", "use --device cpu, or install torch for your GPU")
    if device.index is None:  # of several processes each has its own
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(f"there is no device {device}", f"the last one is cuda:{count - 1}")
    # cuDNN would round float32 to ten bits unless told otherwise; what is not asked for by train.precision is exact.
    torch.backends.cudnn.allow_tf32 = False
    return device


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
    count = processes_on(device, recipe)
    if resumed:
        first = _recipe_of(run)
        count = first.train.processes if isinstance(first.train.processes, int) else count
        if recipe.train.batch_tokens == "auto":
            found = msgspec.structs.replace(recipe.train, batch_tokens=first.train.batch_tokens)
            recipe = msgspec.structs.replace(recipe, train=found)
    settings = recipe.train
    if settings.processes == "auto":
        recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(settings, processes=count))
    if resumed:
        changes = config.difference(first, recipe)
        _check(run, recipe, changes, extend=extend)
    else:
        shutil.rmtree(run / "codec", ignore_errors=True)
    limits = {settings.steps, settings.epochs, settings.minutes, settings.patience, settings.target}
    if limits == {None} and not isinstance(recipe.model, NGram):
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


@dataclass(frozen=True)
class Loaded:
    """A trained model with all that belongs to it."""

    path: Path
    recipe: Recipe
    codecs: Codecs
    model: AnyModel  # in evaluation mode
    facts: dict[str, object]  # step, score, metric


def load(path: Path, *, device: torch.device = CPU) -> Loaded:
    """Read a run folder (its best verified checkpoint) or a stand-alone `model/` folder."""
    if not os.path.isdir(path):  # Path's own raises for names that no file can have
        near = _similar(path)
        raise ModelError(f"{path} is not a model folder", f"did you mean {near}?" if near else "train one first")
    if (path / "checkpoints").is_dir():
        return _load_run(path, device)
    folder = read_model(path)
    recipe = _recipe(folder.recipe, path / "recipe.toml")
    return _loaded(path, recipe, Codecs.load(folder.codec), folder.tensors(), dict(folder.facts), device)


def _similar(path: Path) -> str | None:
    with contextlib.suppress(OSError):  # a name may be too long for any file
        return closest(str(path), (str(entry.parent) for entry in path.parent.glob("*/recipe.toml")))
    return None


def _recipe_of(run: Path) -> Recipe:
    path = run / "recipe.toml"
    try:
        text = read_plain(path, limit=config.LARGEST_FILE).decode()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing", "put the run's recipe back") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is damaged: it is not UTF-8", "put the run's recipe back") from None
    return _recipe(text, path)


def _recipe(text: str, path: Path) -> Recipe:
    """The recipe of a trained model: one that cannot be read is a fault of the folder, not of who uses it."""
    try:
        return config.read(text, where=str(path))
    except ConfigError as error:
        first, *more = error.what.split("\n")
        raise ModelError(f"{path} cannot be used: {first}" if more else error.what, error.hint) from None


def _load_run(path: Path, device: torch.device) -> Loaded:
    folder = path / "checkpoints"
    best = checkpoint.best(folder)
    found = None
    if best is not None and checkpoint.verify(checkpoint.step_path(folder, best.step)) is None:
        found = checkpoint.read(checkpoint.step_path(folder, best.step))
    if found is None:
        found, _ = checkpoint.newest(folder)
    if found is None:
        raise ModelError(f"{path} has no checkpoint yet", "wait for the first, or train longer")
    recipe = _recipe_of(path)
    tensors = found.tensors("average" if "average" in found.stems else "model")
    own = best if best is not None and best.step == found.step else None
    facts: dict[str, object] = {"step": found.step, "score": own and own.score, "metric": own and own.metric}
    return _loaded(path, recipe, Codecs.load(path / "codec"), tensors, facts, device)


def _loaded(
    path: Path,
    recipe: Recipe,
    codecs: Codecs,
    tensors: dict[str, torch.Tensor],
    facts: dict[str, object],
    device: torch.device,
) -> Loaded:
    try:
        model = load_model(recipe, codecs, tensors)
    except ConfigError as error:
        raise ModelError(f"{path}: {error.what}", error.hint) from None
    return Loaded(path, recipe, codecs, model.to(device).eval(), facts)
