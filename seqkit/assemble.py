"""A recipe -> text layer, model, objective, optimizers: what training asks for whatever the kind of data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from seqkit.errors import ModelError, ResourceError
from seqkit.files import replace_folder
from seqkit.host import BFLOAT16_WIDTH, MOST_PROCESSES, cores, fast_bfloat16
from seqkit.layers.deep import Deep
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.layers.positions import LearnedPositions
from seqkit.models.build import NeuralModel, Sizes, build
from seqkit.models.ngram import NGramModel
from seqkit.settings import (
    Labelled,
    NGram,
    Pairs,
    Recipe,
    SentencePiece,
    Text,
    Train,
    Transformer,
    TransformerLabeller,
    TransformerLanguageModel,
)
from seqkit.text.codec import Codec, Codecs
from seqkit.train.distributed import Processes
from seqkit.train.objective import Objective
from seqkit.train.optim import build_optimizers
from seqkit.train.seeds import seed_of
from seqkit.train.weights import check_shapes, load_strictly

__all__ = [
    "AnyModel",
    "build_model",
    "hidden_matrices",
    "load_model",
    "objective",
    "optimizers",
    "precisions",
    "processes_on",
    "resolve",
    "set_float32",
    "text_layer",
]

AnyModel = NeuralModel | NGramModel
SelfAttention = Transformer | TransformerLanguageModel | TransformerLabeller

# Tokens of a batch below which a process is not worth what it exchanges: recurrences go through a batch place by place,
# and half the rows take nearly as long. Measured on two cores, see "Speed" in recipes/README.md.
ENOUGH, ENOUGH_RECURRENT = 500, 2800


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


def processes_on(device: torch.device, recipe: Recipe) -> int:
    """What `train.processes = "auto"` stands for here: one for each core, or fewer, of several threads, where a batch
    has too little for each."""
    if device.type != "cpu":
        return 1
    most, settings = min(cores(), MOST_PROCESSES), recipe.train
    if settings.batch_tokens == "auto" or settings.sharded:
        return most
    enough = ENOUGH if isinstance(recipe.model, SelfAttention) else ENOUGH_RECURRENT
    return max(1, min(most, settings.batch_tokens // enough))


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
    """The recipe's model with fresh weights, a function of the seed alone.

    Raises ResourceError when there is no memory for it.
    """
    torch.manual_seed(seed_of(recipe.train.seed))
    try:
        model = build(recipe.model, _sizes(codecs))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if not re.search("allocate memory|out of memory|overflow", reason):
            raise
        what = f"there is no memory for this model: {reason[:200]}"
        raise ResourceError(what, "lower the sizes in [model]") from None
    for module in model.modules():
        if isinstance(module, Deep):
            module.recompute = recipe.train.recompute
        if isinstance(module, Dropout):
            module.cheap = recipe.train.cheap_dropout
    return model


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
    gpu = device.type == "cuda"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else fast_bfloat16()
    wide = gpu or (not isinstance(model, NGram) and model.width >= BFLOAT16_WIDTH)
    layers = settings.precision == "bfloat16" or (settings.precision == "auto" and fast and wide)
    products = settings.output_precision == "bfloat16" or (settings.output_precision == "auto" and fast)
    return torch.bfloat16 if layers else torch.float32, torch.bfloat16 if products else None


def set_float32(recipe: Recipe, device: torch.device) -> None:
    """How this process makes products of float32 on a GPU: exactly, or with TF32's ten bits where that is wanted.

    Where the layers are in bfloat16 the recurrent ones stay in float32, and need no more bits than the others.
    """
    if device.type == "cuda":
        layers, _ = precisions(recipe, device)
        rounded = recipe.train.precision == "tf32"
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded or layers == torch.bfloat16


def objective(recipe: Recipe, model: nn.Module, device: torch.device) -> Objective:
    """Model and loss as one module."""
    layers, products = precisions(recipe, device)
    settings = resolve(recipe).train
    smoothing = settings.label_smoothing
    assert smoothing != "auto"
    # The kernels of recurrent layers are whole already, and the compiler would only stumble over them.
    compiled = settings.compile is True and isinstance(recipe.model, SelfAttention)
    return Objective(
        model, smoothing=smoothing, r_drop=settings.r_drop, layers=layers, products=products, compiled=compiled
    )
