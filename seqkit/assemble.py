"""A recipe -> text layer, model, objective, optimizers: what training asks for whatever the kind of data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from seqkit.files import replace_folder
from seqkit.host import BFLOAT16_WIDTH, fast_bfloat16
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.layers.positions import LearnedPositions
from seqkit.models.build import NeuralModel, Sizes, build
from seqkit.models.ngram import NGramModel
from seqkit.settings import Labelled, NGram, Pairs, Recipe, SentencePiece, Text, Train
from seqkit.text.codec import Codec, Codecs
from seqkit.train.distributed import Processes
from seqkit.train.objective import Objective
from seqkit.train.optim import build_optimizers
from seqkit.train.trainer import seed_of
from seqkit.train.weights import load_strictly

__all__ = [
    "AnyModel",
    "build_model",
    "hidden_matrices",
    "load_model",
    "objective",
    "optimizers",
    "precisions",
    "resolve",
    "text_layer",
]

AnyModel = NeuralModel | NGramModel


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with what `auto` stands for, where that follows from the recipe alone."""
    settings, task = recipe.train, recipe.data
    translates = isinstance(task, Pairs)
    metric: Literal["bleu", "f1", "loss"] = "bleu" if translates else "f1" if isinstance(task, Labelled) else "loss"
    if settings.metric == "auto":
        settings = msgspec.structs.replace(settings, metric=metric)
    if settings.label_smoothing == "auto":
        settings = msgspec.structs.replace(settings, label_smoothing=0.1 if translates else 0.0)
    return msgspec.structs.replace(recipe, train=settings)


def text_layer(settings: Text, folder: Path, learn: Callable[[], Codecs]) -> Codecs:
    """The text layer in `folder`, where a run keeps its own; if there is none yet, one that is borrowed or learnt."""
    if folder.exists():
        return Codecs.load(folder)
    codecs = learn() if settings.from_ is None else _borrowed(Path(settings.from_), settings)
    partial = folder.with_name(".codec.tmp")  # a crash must not leave a folder that looks like a text layer
    shutil.rmtree(partial, ignore_errors=True)
    codecs.save(partial)
    replace_folder(partial, folder)
    return codecs


def _borrowed(path: Path, settings: Text) -> Codecs:
    """The text layer of another run, or one from `seqkit text learn`; how it is sampled is this recipe's affair."""
    codecs = Codecs.load(path / "codec" if (path / "codec").is_dir() else path)

    def ours(codec: Codec) -> Codec:
        if not (isinstance(codec.settings, SentencePiece) and isinstance(settings, SentencePiece)):
            return codec
        return replace(codec, settings=msgspec.structs.replace(codec.settings, sampling=settings.sampling))

    source = ours(codecs.source)
    return Codecs(source, source if codecs.joint else ours(codecs.target))


def build_model(recipe: Recipe, codecs: Codecs) -> NeuralModel:
    """The recipe's model with fresh weights, a function of the seed alone."""
    torch.manual_seed(seed_of(recipe.train.seed))
    model = build(recipe.model, Sizes(len(codecs.source), len(codecs.target), codecs.joint))
    for module in model.modules():
        if isinstance(module, Dropout):
            module.cheap = recipe.train.cheap_dropout
    return model


def load_model(recipe: Recipe, codecs: Codecs, tensors: Mapping[str, Tensor]) -> AnyModel:
    """The recipe's model with the weights, or counts, that `tensors` hold. Raises ModelError if they do not fit."""
    if isinstance(recipe.model, NGram):
        return NGramModel.from_tensors(recipe.model, tensors, vocabulary=len(codecs.target))
    model = build_model(recipe, codecs)
    load_strictly(model, tensors)
    return model


def hidden_matrices(model: nn.Module) -> set[str]:
    """The names of the matrices between hidden vectors: not token vectors, positions or the output layer."""
    apart = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, Embedding | OutputLayer | LearnedPositions)
        for parameter in module.parameters()
    }
    return {name for name, parameter in model.named_parameters() if parameter.ndim == 2 and id(parameter) not in apart}


def optimizers(settings: Train, model: nn.Module, processes: Processes | None = None) -> list[torch.optim.Optimizer]:
    """The recipe's optimizers over a model's parameters."""
    return build_optimizers(
        settings.optimizer,
        dict(model.named_parameters()),
        rate=settings.learning_rate,
        matrices=hidden_matrices(model),
        processes=processes,
        fused=settings.fused_optimizer,
    )


def precisions(recipe: Recipe, device: torch.device) -> tuple[torch.dtype, torch.dtype | None]:
    """The arithmetic of the layers, and of the output layer's products (None: the tensors' own)."""
    settings, model = recipe.train, recipe.model
    fast = device.type == "cuda" or fast_bfloat16()
    wide = device.type == "cuda" or (not isinstance(model, NGram) and model.width >= BFLOAT16_WIDTH)
    layers = settings.precision == "bfloat16" or (settings.precision == "auto" and fast and wide)
    products = settings.output_precision == "bfloat16" or (settings.output_precision == "auto" and fast)
    return torch.bfloat16 if layers else torch.float32, torch.bfloat16 if products else None


def objective(recipe: Recipe, model: nn.Module, device: torch.device) -> Objective:
    """Model and loss as one module."""
    layers, products = precisions(recipe, device)
    smoothing = resolve(recipe).train.label_smoothing
    assert smoothing != "auto"
    return Objective(model, smoothing=smoothing, layers=layers, products=products)
