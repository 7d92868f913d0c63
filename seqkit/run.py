"""A run folder: what is in it, how it is begun, how its model is read.

run/recipe.toml  codec/  checkpoints/step-00001200/  model/  log.jsonl  status.json  samples.tsv  train.log  lock
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from seqkit import config
from seqkit.assemble import AnyModel, load_model, resolve
from seqkit.errors import ConfigError, ModelError, ResourceError, closest
from seqkit.files import recover, remove, replace_file
from seqkit.host import cores
from seqkit.settings import NGram, Recipe
from seqkit.text.codec import Codecs
from seqkit.train import checkpoint
from seqkit.train.model_folder import read_model

__all__ = ["CPU", "Loaded", "clear", "device_of", "load", "out_of", "record", "replaceable", "settle", "tidy"]

CPU = torch.device("cpu")
MOST_PROCESSES = 8
RECIPE = "recipe.toml"
LOCK = "lock"

# Settings that may change when a run is resumed: they decide how long it goes on, how it is watched and how it is
# searched, not what a step does. Every other setting is part of what the run is.
HARMLESS = frozenset(
    {
        "name",
        "out",
        "data.source",
        "data.target",
        "train.steps",
        "train.epochs",
        "train.minutes",
        "train.validate_every",
        "train.validate_beam",
        "train.validate_lines",
        "train.patience",
        "train.processes",
        "train.target",
        "train.save_every",
        "train.save_minutes",
        "train.keep",
        "train.log_seconds",
        "train.keep_heap",
    }
)


def device_of(name: str) -> torch.device:
    """`auto` is the GPU if there is one; anything else is torch's own name for a device."""
    if name == "auto":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else CPU
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", "use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("this torch sees no GPU", "use --device cpu, or install torch for your GPU")
    return device


def out_of(recipe: Recipe, out: Path | None) -> Path:
    """The folder of a recipe's run: what the caller says, else the recipe, else runs/NAME."""
    return out or Path(recipe.out or Path("runs") / recipe.name)


def replaceable(run: Path) -> None:
    """Refuse to throw away a folder that is not a run, for the sake of what else might be in it."""
    if not run.is_dir() or (run / RECIPE).exists():
        return
    ours = (LOCK, f".{RECIPE}.")  # all that a death leaves which comes before the recipe
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


def settle(run: Path, recipe: Recipe, device: torch.device) -> Recipe:
    """The recipe this run goes by: resolved at its first start, compared with it once there is a checkpoint.

    Before that nothing is lost by starting anew, so a first start that failed binds nobody. What a later start changes
    is not written down yet: `record` does that, when nothing else speaks against going on.
    """
    path = run / RECIPE
    recipe = resolve(recipe)
    resumed = any((run / "checkpoints").glob("step-*")) and path.exists()
    count = min(cores(), MOST_PROCESSES) if device.type == "cpu" else 1
    if resumed:
        first = config.load(path)
        count = first.train.processes if isinstance(first.train.processes, int) else count
        _compare(run, first, recipe)
    else:
        shutil.rmtree(run / "codec", ignore_errors=True)
    settings = recipe.train
    limits = {settings.steps, settings.epochs, settings.minutes, settings.patience, settings.target}
    if limits == {None} and not isinstance(recipe.model, NGram):
        raise ConfigError("nothing says when to stop", "set train.steps, train.epochs or train.minutes")
    if recipe.train.processes == "auto":
        recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(settings, processes=count))
    if not resumed:
        record(run, recipe)
    return recipe


def record(run: Path, recipe: Recipe) -> None:
    """Write down what a run goes by."""
    try:
        replace_file(run / RECIPE, config.dump(recipe))
    except OSError as error:
        raise ResourceError(f"cannot write {run / RECIPE}: {error.strerror}", "free some space") from error


def _compare(run: Path, first: Recipe, now: Recipe) -> None:
    """Refuse to go on with a recipe that means another run."""
    changed = [
        (key, old, new)
        for key, old, new in config.difference(first, now)
        if key not in HARMLESS and not key.startswith("search.")
    ]
    if changed:
        key, old, new = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{run} was started with {key} = {old}, and now it is {new}{more}",
            "choose another --out, or --overwrite to throw the old run away",
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
    if not path.is_dir():
        near = closest(str(path), (str(entry.parent) for entry in path.parent.glob("*/recipe.toml")))
        raise ModelError(f"{path} is not a model folder", f"did you mean {near}?" if near else "train one first")
    if (path / "checkpoints").is_dir():
        return _load_run(path, device)
    folder = read_model(path)
    recipe = config.read(folder.recipe, where=str(path / "recipe.toml"))
    return _loaded(path, recipe, Codecs.load(folder.codec), folder.tensors(), dict(folder.facts), device)


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
    recipe = config.load(path / "recipe.toml")
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
    model = load_model(recipe, codecs, tensors)
    return Loaded(path, recipe, codecs, model.to(device).eval(), facts)
