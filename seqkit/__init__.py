"""Sequence modelling and machine translation for people who train their own systems.

    >>> import seqkit
    >>> recipe = seqkit.config.load("recipe.toml", ["train.steps=2"])
    >>> progress = seqkit.train(recipe, out="run")  # Ctrl-C, kill -9: the same call goes on
    >>> progress.step
    2
    >>> translator = seqkit.load("run")  # what the run is: a Translator, a Writer or a Labeller
    >>> [translation.text for translation in translator.translate(["", ""])]
    ['', '']

A callback is called around the steps of training; a tracker of experiments is one:

    >>> class Tracker(seqkit.Callback):
    ...     def validated(self, trainer, report):
    ...         print(trainer.progress.step, sorted(report.scores))
    >>> progress = seqkit.train(recipe, out="tracked", callbacks=[Tracker()])
    2 ['bleu', 'exact', 'loss']

What goes wrong is a `seqkit.SeqkitError`, with a hint:

    >>> try:
    ...     seqkit.load("rum")
    ... except seqkit.ModelError as error:
    ...     print(error.what, "-", error.hint)
    rum is not a model folder - did you mean run?

A name is imported when it is first used, so that `import seqkit` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqkit import config as config
    from seqkit.errors import (
        BusyError,
        ConfigError,
        DataError,
        DivergenceError,
        Interrupted,
        ModelError,
        ResourceError,
        SeqkitError,
        ThresholdError,
    )
    from seqkit.inference.labeller import Labeller
    from seqkit.inference.loader import load
    from seqkit.inference.translation import Translation
    from seqkit.inference.translator import Translator
    from seqkit.inference.writer import Writer
    from seqkit.runs.session import train
    from seqkit.settings import Recipe, Search
    from seqkit.training.trainer import Callback

    __version__: str

__all__ = [
    "BusyError",
    "Callback",
    "ConfigError",
    "DataError",
    "DivergenceError",
    "Interrupted",
    "Labeller",
    "ModelError",
    "Recipe",
    "ResourceError",
    "Search",
    "SeqkitError",
    "ThresholdError",
    "Translation",
    "Translator",
    "Writer",
    "__version__",
    "config",
    "load",
    "train",
]

_ERRORS = ("Busy", "Config", "Data", "Divergence", "Model", "Resource", "Seqkit", "Threshold")
_HOMES = {
    "Callback": "seqkit.training.trainer",
    "Interrupted": "seqkit.errors",
    "Labeller": "seqkit.inference.labeller",
    "Recipe": "seqkit.settings",
    "Search": "seqkit.settings",
    "Translation": "seqkit.inference.translation",
    "Translator": "seqkit.inference.translator",
    "Writer": "seqkit.inference.writer",
    "load": "seqkit.inference.loader",
    "train": "seqkit.runs.session",
    **{f"{name}Error": "seqkit.errors" for name in _ERRORS},
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    value: object
    if name in _HOMES:
        value = vars(importlib.import_module(_HOMES[name]))[name]
    elif name == "config":
        value = importlib.import_module("seqkit.config")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("seqkit")
    else:
        raise AttributeError(f"module 'seqkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
