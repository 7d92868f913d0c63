"""A recipe -> the network that it describes, with fresh or trained weights, and the optimizers of its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import torch
from torch import Tensor, nn

from seqkit.errors import ModelError, ResourceError
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.layers.positions import LearnedPositions
from seqkit.models.build import NeuralModel, Sizes, build
from seqkit.models.ngram import NGramModel
from seqkit.parallel.processes import Processes
from seqkit.settings import (
    NGram,
    Recipe,
    Train,
)
from seqkit.storage.weights import check_shapes, load_strictly
from seqkit.text.codec import Codecs
from seqkit.training.optimizers import build_optimizers
from seqkit.training.seeds import seed_of

__all__ = ["AnyModel", "build_model", "hidden_matrices", "load_model", "recipe_optimizers"]

AnyModel = NeuralModel | NGramModel


def build_model(recipe: Recipe, codecs: Codecs) -> NeuralModel:
    """The recipe's model with fresh weights, a function of the seed alone.

    Raises ResourceError when there is no memory for it.
    """
    torch.manual_seed(seed_of(recipe.train.seed))
    try:
        return build(recipe.model, _sizes(codecs), recompute=recipe.train.recompute)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if not re.search("allocate memory|out of memory|overflow", reason):
            raise
        what = f"there is no memory for this model: {reason[:200]}"
        raise ResourceError(what, "lower the sizes in [model]") from None


def load_model(recipe: Recipe, codecs: Codecs, tensors: Mapping[str, Tensor]) -> AnyModel:
    """The recipe's model with the weights, or counts, that `tensors` hold. Raises ModelError if they do not fit."""
    if isinstance(recipe.model, NGram):
        return NGramModel.from_tensors(recipe.model, tensors, vocabulary=len(codecs.target))
    _check_size(recipe, codecs, tensors)
    model = build_model(recipe, codecs)
    load_strictly(model, tensors)
    return model


def _check_size(recipe: Recipe, codecs: Codecs, tensors: Mapping[str, Tensor]) -> None:
    """Compare recipe and weights before anything is allocated: a foreign recipe may ask for more than there is."""
    settings = msgspec.to_builtins(recipe.model)
    for name, count in settings.items():
        if name.endswith("layers") and count > len(tensors):  # each layer has tensors of its own
            what = f"the weights do not fit the model: {len(tensors)} tensors are too few for model.{name} = {count}"
            raise ModelError(what, "the recipe describes another model")
    try:
        with torch.device("meta"):
            bare = build(recipe.model, _sizes(codecs))
    except RuntimeError as error:  # a size that no tensor can have
        raise ModelError(f"no model is as large as the recipe says: {error}", "the recipe is damaged") from None
    check_shapes(bare, tensors)


def _sizes(codecs: Codecs) -> Sizes:
    return Sizes(len(codecs.source), len(codecs.target), codecs.joint)


def hidden_matrices(model: nn.Module) -> set[str]:
    """The names of the matrices between hidden vectors: not token vectors, positions or the output layer."""
    apart = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, Embedding | OutputLayer | LearnedPositions)
        for parameter in module.parameters()
    }
    return {name for name, parameter in model.named_parameters() if parameter.ndim == 2 and id(parameter) not in apart}


def recipe_optimizers(
    settings: Train, model: nn.Module, processes: Processes | None = None
) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over a model's parameters."""
    return build_optimizers(
        settings.optimizer,
        dict(model.named_parameters()),
        rate=settings.learning_rate,
        matrices=hidden_matrices(model),
        processes=processes,
        fused=settings.fused_optimizer,
    )
