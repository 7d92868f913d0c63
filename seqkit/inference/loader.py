"""What a trained model is, by its run: a translator, a writer or a labeller."""

from __future__ import annotations

from pathlib import Path

from seqkit.errors import ConfigError
from seqkit.inference.labeller import Labeller
from seqkit.inference.translator import Translator
from seqkit.inference.writer import Writer
from seqkit.runs.trained_model import load as load_model
from seqkit.system.device import device_of

__all__ = ["load"]


def load(path: str | Path, *others: str | Path, device: str = "auto") -> Translator | Writer | Labeller:
    """Read a run folder, whose best checkpoint is taken, or a `model/` folder; several translators become an ensemble.

    Raises ModelError when there is no sound model, ConfigError for a device that is not there and for several models
    that do not translate.
    """
    place = device_of(device)
    models = [load_model(Path(name), device=place) for name in (path, *others)]
    first = models[0]
    purpose = first.recipe.model.purpose
    if purpose == "translation":
        return Translator(*models, device=place)
    if others:
        raise ConfigError(f"{first.path} does not translate, and only translators become an ensemble", "load one model")
    return Writer(first, device=place) if purpose == "language" else Labeller(first, device=place)
