"""Words of the command line that several commands share: those for run folders, and those for search settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seqkit import config
from seqkit.errors import ConfigError
from seqkit.settings import Recipe, Search

__all__ = ["runs_of", "search_of"]


def runs_of(words: Sequence[str]) -> list[Path]:
    """The run folders that words of the command line name, one each or several joined by `+`."""
    return [Path(part) for word in words for part in ([word] if os.path.exists(word) else word.split("+"))]


def search_of(recipe: Recipe, overrides: Sequence[str]) -> Search:
    """The recipe's search settings with those of the command line. Raises ConfigError for any other word."""
    for word in overrides:
        if not word.startswith("search."):
            raise ConfigError(f"{word} has no effect here", "a trained model takes only search.key=value")
    if not overrides:
        return recipe.search
    text = config.dump(recipe, commented=False)
    return config.read(text, where="command line", overrides=overrides).search
