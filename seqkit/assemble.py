"""A recipe -> codecs, data, model, objective, callbacks: the place that knows every part."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from seqkit.data.cleaning import keep, overlap, too_long
from seqkit.data.corpora import ParallelText, read_pairs
from seqkit.data.datasets import Encoded
from seqkit.data.loading import PairStream
from seqkit.errors import DataError
from seqkit.files import expand_braces, replace_folder, sha256
from seqkit.host import fast_bfloat16
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.layers.positions import LearnedPositions
from seqkit.models.build import Sizes, build
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Recipe, SentencePiece, Text, Train
from seqkit.text.codec import Codec, Codecs
from seqkit.train.distributed import Processes
from seqkit.train.objective import Objective
from seqkit.train.optim import build_optimizers
from seqkit.train.trainer import seed_of

__all__ = [
    "Examples",
    "Prepared",
    "build_model",
    "encode",
    "hidden_matrices",
    "objective",
    "optimizers",
    "precisions",
    "prepare",
    "stream",
]

BFLOAT16_WIDTH = 128  # narrower layers lose more to conversions than bfloat16 products give


class Examples(NamedTuple):
    """Training pairs as ids, without begin and end."""

    source: Encoded
    target: Encoded


@dataclass(frozen=True)
class Prepared:
    """What a recipe's files became."""

    codecs: Codecs
    examples: Examples  # the training pairs, encoded once
    text: ParallelText | None  # the same pairs as text, where every epoch is encoded anew
    dev: ParallelText | None
    notes: list[str]  # what was dropped or looks odd, for people
    fingerprint: str  # of the training files and of all settings that decide what they become


def prepare(recipe: Recipe, run: Path) -> Prepared:
    """Read and clean the text, learn the text layer (or take the run's own) and encode.

    What is left out is counted, never silent. The text layer is kept in `run/codec`.
    """
    data = recipe.data
    text = read_pairs(data.train, bad_utf8=data.bad_utf8)
    dev = read_pairs(data.dev, bad_utf8=data.bad_utf8) if data.dev else None
    notes = _dropped(text, "training") + ([] if dev is None else _dropped(dev, "development"))
    codecs = _codecs(recipe, run / "codec", text)
    examples = encode(codecs, text)
    reasons = {"too long": too_long(examples.source.lengths, examples.target.lengths, data.maximum_length)}
    shared = overlap(text.source, dev.source) if dev is not None else np.zeros(0, dtype=np.int64)
    if data.drop_overlap:
        reasons["in the development set too"] = shared
    elif len(shared):
        notes.append(f"{len(shared)} training sources also stand in the development set (data.drop_overlap drops them)")
    kept = keep(len(text), reasons)
    notes += [f"{count} training pairs dropped: {reason}" for reason, count in kept.dropped.items() if count]
    if not len(kept.indices):
        raise DataError("no usable training pair is left", "see the counts above, and data.maximum_length")
    if len(kept.indices) < len(text):
        examples = Examples(examples.source.take(kept.indices), examples.target.take(kept.indices))
        source = [text.source[i] for i in kept.indices]
        target = [text.target[i] for i in kept.indices]
        text = ParallelText(source, target, text.dropped, text.nul)
    sampling = isinstance(recipe.text, SentencePiece) and recipe.text.sampling > 0
    return Prepared(codecs, examples, text if sampling else None, dev, notes, _fingerprint(recipe, codecs))


def _dropped(text: ParallelText, part: str) -> list[str]:
    notes = [f"{count} {part} pairs dropped: {reason}" for reason, count in text.dropped.items() if count]
    return notes + ([f"{text.nul} NUL characters in the {part} text became spaces"] if text.nul else [])


def _codecs(recipe: Recipe, folder: Path, text: ParallelText) -> Codecs:
    if folder.exists():
        return Codecs.load(folder)
    if recipe.text.from_ is None:
        codecs = Codecs.learn(text.source, text.target, recipe.text)
    else:
        codecs = _borrowed(Path(recipe.text.from_), recipe.text)
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


def _fingerprint(recipe: Recipe, codecs: Codecs) -> str:
    data = recipe.data
    files = [sha256(name) for word in data.train for name in expand_braces(word)]
    facts = [*files, codecs.source.fingerprint, codecs.target.fingerprint]
    rules = [data.maximum_length, data.bad_utf8, data.drop_overlap]
    return hashlib.sha256(msgspec.json.encode([facts, rules])).hexdigest()


def encode(codecs: Codecs, text: ParallelText, *, sampling_seed: int | None = None) -> Examples:
    """Both sides as ids."""
    return Examples(
        Encoded.from_lists(codecs.source.encode_many(text.source, sampling_seed=sampling_seed)),
        Encoded.from_lists(codecs.target.encode_many(text.target, sampling_seed=sampling_seed)),
    )


def stream(recipe: Recipe, prepared: Prepared, processes: Processes) -> PairStream:
    """The training batches of this process.

    With subword sampling every epoch is encoded anew; a pair that a sample makes too long keeps its unsampled form.
    """
    settings = recipe.train

    def examples(epoch: int) -> Examples:
        fixed, text = prepared.examples, prepared.text
        if text is None:
            return fixed
        new = encode(prepared.codecs, text, sampling_seed=seed_of(settings.seed, epoch))
        long = too_long(new.source.lengths, new.target.lengths, recipe.data.maximum_length)
        if not len(long):
            return new
        back = set(long.tolist())
        return Examples(_either(new.source, fixed.source, back), _either(new.target, fixed.target, back))

    return PairStream(
        examples=examples,
        budget=settings.batch_tokens,
        accumulate=settings.accumulate,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )


def _either(new: Encoded, old: Encoded, from_old: set[int]) -> Encoded:
    return Encoded.from_lists((old if i in from_old else new)[i].tolist() for i in range(len(new)))


def build_model(recipe: Recipe, codecs: Codecs) -> EncoderDecoder:
    """The recipe's model with fresh weights, a function of the seed alone."""
    torch.manual_seed(seed_of(recipe.train.seed))
    return build(recipe.model, Sizes(len(codecs.source), len(codecs.target), codecs.joint))


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
    )


def precisions(recipe: Recipe, device: torch.device) -> tuple[torch.dtype, torch.dtype | None]:
    """The arithmetic of the layers, and of the output layer's products (None: the tensors' own)."""
    settings = recipe.train
    fast = device.type == "cuda" or fast_bfloat16()
    wide = device.type == "cuda" or recipe.model.width >= BFLOAT16_WIDTH
    layers = settings.precision == "bfloat16" or (settings.precision == "auto" and fast and wide)
    products = settings.output_precision == "bfloat16" or (settings.output_precision == "auto" and fast)
    return torch.bfloat16 if layers else torch.float32, torch.bfloat16 if products else None


def objective(recipe: Recipe, model: EncoderDecoder, device: torch.device) -> Objective:
    """Model and loss as one module."""
    layers, products = precisions(recipe, device)
    return Objective(model, smoothing=recipe.train.label_smoothing, layers=layers, products=products)
