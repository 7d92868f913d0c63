"""Sequence modelling and machine translation for people who train their own systems.

    import seqkit

    translator = seqkit.load("runs/en-de")
    for translation in translator.translate(["a dog runs"]):
        print(translation.text)

A name is imported when it is first used, so that `import seqkit` costs nothing. Training is
`seqkit.runs.session.train(recipe)`: `seqkit.train` is the package of its parts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqkit.inference.translation import Translation
    from seqkit.inference.translator import Translator
    from seqkit.inference.writer import Writer
    from seqkit.settings import Recipe

    __version__: str
    load = Translator.load

__all__ = ["Recipe", "Translation", "Translator", "Writer", "__version__", "load"]

_HOMES = {
    "Recipe": "seqkit.settings",
    "Translation": "seqkit.inference.translation",
    "Translator": "seqkit.inference.translator",
    "Writer": "seqkit.inference.writer",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    value: object
    if name in _HOMES:
        value = vars(importlib.import_module(_HOMES[name]))[name]
    elif name == "load":
        from seqkit.inference.translator import Translator

        value = Translator.load
    elif name == "__version__":
        from importlib.metadata import version

        value = version("seqkit")
    else:
        raise AttributeError(f"module 'seqkit' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
