"""What `auto` stands for: pure functions of settings and of counted numbers, which import nothing heavy."""

from __future__ import annotations

import msgspec

from seqkit.metrics.table import DEFAULT_METRICS
from seqkit.settings import Recipe

__all__ = ["MOST_PROCESSES", "NARROWEST_BFLOAT16", "processes", "resolve"]

MOST_PROCESSES = 8
NARROWEST_BFLOAT16 = 128  # width of a model; narrower layers lose more to conversions than bfloat16 products give

# Tokens of a batch below which a process is not worth what it exchanges: recurrences go through a batch place by place,
# and half the rows take nearly as long. Measured on two cores, see recipes/notes/host-settings.md.
ENOUGH_TOKENS, ENOUGH_TOKENS_RECURRENT = 500, 2800


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with what `auto` stands for, where that follows from the recipe alone."""
    settings, purpose = recipe.train, recipe.data.purpose
    if settings.metric == "auto":
        settings = msgspec.structs.replace(settings, metric=DEFAULT_METRICS[purpose])
    if settings.label_smoothing == "auto":
        settings = msgspec.structs.replace(settings, label_smoothing=0.1 if purpose == "translation" else 0.0)
    return msgspec.structs.replace(recipe, train=settings)


def processes(recipe: Recipe, *, cores: int | None) -> int:
    """What `train.processes = "auto"` stands for on so many cores (None: on a GPU): one for each core, or fewer, of
    several threads, where a batch has too little for each."""
    if cores is None:
        return 1
    most, settings = min(cores, MOST_PROCESSES), recipe.train
    if settings.batch_tokens == "auto" or settings.sharded:
        return most
    enough = ENOUGH_TOKENS if recipe.model.parallel_in_time else ENOUGH_TOKENS_RECURRENT
    return max(1, min(most, settings.batch_tokens // enough))
