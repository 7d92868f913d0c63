"""Load a trained model as what it is for: a translator, a writer or a labeller."""

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
    resolved = device_of(device)
    models = [load_model(Path(folder), device=resolved) for folder in (path, *others)]
    first = models[0]
    if first.purpose == "translation":
        return Translator(*models, device=resolved)
    if others:
        raise ConfigError(f"{first.path} does not translate, and only translators become an ensemble", "load one model")
    return Writer(first, device=resolved) if first.purpose == "language" else Labeller(first, device=resolved)
