"""Recipe -> task: the one `match` over the kinds of data."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from seqkit.settings import Labelled, Lines, Pairs, Recipe, Stream
from seqkit.tasks import labelling_task as labelling
from seqkit.tasks import language_task as language
from seqkit.tasks import translation_task as translation
from seqkit.tasks.task import Task

__all__ = ["prepare"]


def prepare(recipe: Recipe, run: Path) -> Task:
    """Read and encode a recipe's files; the text layer is kept in `run/codec`, or taken from there."""
    match recipe.data:
        case Pairs() as data:
            return translation.prepare(recipe, data, run)
        case Stream() | Lines() as data:
            return language.prepare(recipe, data, run)
        case Labelled() as data:
            return labelling.prepare(recipe, data, run)
        case _:
            assert_never(recipe.data)
