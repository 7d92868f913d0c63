"""What does not go together in a recipe, though each setting is right alone."""

from __future__ import annotations

from typing import get_args

from seqkit.metrics.table import checkpoint_metrics
from seqkit.settings import (
    AveragedSGD,
    Labelled,
    LabellerSettings,
    LanguageModelSettings,
    Mixed,
    Muon,
    Pairs,
    Recipe,
    RecurrentLanguageModel,
    SelfAttention,
    Stream,
    Transformer,
    TransformerLanguageModel,
    TranslationSettings,
    Words,
)
from seqkit.settings.schema import kind_of

__all__ = ["check"]

MOST_HEADS = 1024  # that are ever proposed


def check(recipe: Recipe) -> list[tuple[str, str]]:
    """What is wrong between settings that are each right alone, and what to do; empty when nothing is."""
    model, search = recipe.model, recipe.search
    problems = _mismatch(recipe)
    if isinstance(model, SelfAttention | Mixed) and model.width % model.heads:
        near = next(heads for heads in range(min(model.heads, MOST_HEADS), 0, -1) if model.width % heads == 0)
        what = f"model.heads = {model.heads} does not divide model.width = {model.width}"
        problems.append((what, f"set model.heads={near}"))
    elif isinstance(model, SelfAttention) and model.positions == "rotary" and model.width // model.heads % 2:
        problems.append(
            ("rotary positions turn pairs, and model.width / model.heads is odd", "set another model.heads")
        )
    if isinstance(model, TranslationSettings) and model.tied == "all" and not recipe.text.joint:
        what = 'model.tied = "all" shares one vocabulary, and text.joint is false'
        problems.append((what, "set model.tied=output, or text.joint=true"))
    if recipe.train.recompute and not model.recomputable:
        problems.append(("only layers of self-attention can be worked out again", "set train.recompute=false"))
    if isinstance(model, RecurrentLanguageModel) and model.cell == "mingru" and model.weight_drop:
        problems.append(("minGRU has no recurrent matrix to drop entries of", "set model.weight_drop=0"))
    if isinstance(recipe.train.optimizer, AveragedSGD):
        if recipe.train.average:
            problems.append(("averaged SGD has an average of its own", "set train.average=0"))
        if not recipe.data.dev:
            problems.append(("averaged SGD watches the development score, and data.dev names no files", "set data.dev"))
    if recipe.train.sharded:
        problems += _unsharded(recipe)
    if search.nbest > search.beam:
        what = f"search.nbest = {search.nbest} is more than search.beam = {search.beam}"
        problems.append((what, f"set search.beam={search.nbest}"))
    if search.minimum_length > search.maximum_length:
        least, most = search.minimum_length, search.maximum_length
        what = f"search.minimum_length = {least} is above search.maximum_length = {most}"
        problems.append((what, "lower the one or raise the other"))
    return problems


def _unsharded(recipe: Recipe) -> list[tuple[str, str]]:
    """What cannot be done with parameters of which each process has but a share."""
    model, settings = recipe.model, recipe.train
    problems = []
    if isinstance(settings.optimizer, Muon | AveragedSGD):
        kind = kind_of(type(settings.optimizer))
        what = f'train.optimizer.kind = "{kind}" needs whole parameters, and train.sharded leaves each process a share'
        problems.append((what, "set train.optimizer.kind to adamw, adam, sgd or rmsprop, or train.sharded=false"))
    if isinstance(model, Transformer | TransformerLanguageModel) and model.layer_drop:
        what = "processes drop different layers by model.layer_drop, and with train.sharded need each other for each"
        problems.append((what, "set model.layer_drop=0, or train.sharded=false"))
    if settings.compile is True and model.compilable:  # nothing else is ever compiled
        what = "layers whose parameters come and go by train.sharded are not compiled"
        problems.append((what, "set train.compile=auto, or train.sharded=false"))
    return problems


def _mismatch(recipe: Recipe) -> list[tuple[str, str]]:
    """Kinds of data, models and tokenizers that do not go together."""
    data, model = recipe.data, recipe.model
    allowed = (
        TranslationSettings
        if isinstance(data, Pairs)
        else LabellerSettings
        if isinstance(data, Labelled)
        else LanguageModelSettings
    )
    if not isinstance(model, allowed):
        kinds = ", ".join(str(kind_of(member)) for member in get_args(allowed))
        what = f'data.kind = "{kind_of(type(data))}" and model.kind = "{kind_of(type(model))}" do not go together'
        return [(what, f"set model.kind to one of {kinds}")]
    problems = []
    metrics = ("auto", *checkpoint_metrics(data.purpose))
    if recipe.train.metric not in metrics:
        what = f'train.metric = "{recipe.train.metric}" is no score of data.kind = "{kind_of(type(data))}"'
        problems.append((what, f"set train.metric to one of {', '.join(metrics)}"))
    if isinstance(data, Stream):
        if data.partition == "sequential" and not model.carries_state:
            problems.append(("only recurrent models carry a state from window to window", "set data.partition=random"))
        if recipe.train.budget < data.window and model.trained:
            what = f"train.batch_tokens = {recipe.train.batch_tokens} is less than data.window = {data.window}"
            problems.append(
                (what, "a batch has train.batch_tokens / data.window rows: raise the one or lower the other")
            )
        if model.reach is not None and model.reach < data.window:
            what = f"model.maximum_positions = {model.reach} is less than data.window = {data.window}"
            problems.append((what, f"set model.maximum_positions={data.window}"))
    if isinstance(data, Labelled) and recipe.text.joint:
        problems.append(("tokens and labels have vocabularies of their own", "set text.joint=false"))
    if isinstance(data, Labelled) and not isinstance(recipe.text, Words):
        problems.append(("labels belong to words", "set text.kind=words and text.split=spaces"))
    return problems
