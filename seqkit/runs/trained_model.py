"""Reading a trained model: from a run folder, or from the stand-alone `model/` folder that a run publishes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from seqkit.errors import ConfigError, ModelError, closest
from seqkit.runs.folder import recipe_of, trained_recipe
from seqkit.runs.network import AnyModel, load_model
from seqkit.settings import Purpose, Recipe
from seqkit.storage import checkpoint
from seqkit.storage.model_folder import read_model
from seqkit.system.device import CPU
from seqkit.text.codec import Codecs

__all__ = ["TrainedModel", "load"]

# The command that uses a model of each purpose.
COMMANDS: dict[Purpose, str] = {"translation": "translate", "language": "generate", "labelling": "label"}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with all that belongs to it."""

    path: Path
    recipe: Recipe
    codecs: Codecs
    model: AnyModel  # in evaluation mode
    facts: dict[str, object]  # step, score, metric

    @property
    def purpose(self) -> Purpose:
        """What the model can be used for."""
        return self.recipe.model.purpose

    def require(self, purpose: Purpose) -> None:
        """Raise ModelError, which names the command that uses this model, unless it has the purpose."""
        if self.purpose != purpose:
            command = f"seqkit {COMMANDS[self.purpose]} {self.path}"
            raise ModelError(f"{self.path} holds no {purpose} model", f"{command} uses it")


def load(path: Path, *, device: torch.device = CPU) -> TrainedModel:
    """Read a run folder (its best verified checkpoint) or a stand-alone `model/` folder."""
    if not os.path.isdir(path):  # Path's own raises for names that no file can have
        near = _similar(path)
        raise ModelError(f"{path} is not a model folder", f"did you mean {near}?" if near else "train one first")
    if (path / "checkpoints").is_dir():
        return _load_run(path, device)
    folder = read_model(path)
    recipe = trained_recipe(folder.recipe, path / "recipe.toml")
    return _loaded(path, recipe, Codecs.load(folder.codec), folder.tensors(), dict(folder.facts), device)


def _similar(path: Path) -> str | None:
    with contextlib.suppress(OSError):  # a name may be too long for any file
        return closest(str(path), (str(entry.parent) for entry in path.parent.glob("*/recipe.toml")))
    return None


def _load_run(path: Path, device: torch.device) -> TrainedModel:
    folder = path / "checkpoints"
    best = checkpoint.best(folder)
    chosen = None
    if best is not None and checkpoint.verify(checkpoint.step_path(folder, best.step)) is None:
        chosen = checkpoint.read(checkpoint.step_path(folder, best.step))
    if chosen is None:
        chosen, _ = checkpoint.newest(folder)
    if chosen is None:
        raise ModelError(f"{path} has no checkpoint yet", "wait for the first, or train longer")
    recipe = recipe_of(path)
    tensors = chosen.tensors("average" if "average" in chosen.stems else "model")
    mark = best if best is not None and best.step == chosen.step else None
    facts: dict[str, object] = {"step": chosen.step, "score": mark and mark.score, "metric": mark and mark.metric}
    return _loaded(path, recipe, Codecs.load(path / "codec"), tensors, facts, device)


def _loaded(
    path: Path,
    recipe: Recipe,
    codecs: Codecs,
    tensors: dict[str, torch.Tensor],
    facts: dict[str, object],
    device: torch.device,
) -> TrainedModel:
    try:
        model = load_model(recipe, codecs, tensors)
    except ConfigError as error:
        raise ModelError(f"{path}: {error.what}", error.hint) from None
    return TrainedModel(path, recipe, codecs, model.to(device).eval(), facts)
