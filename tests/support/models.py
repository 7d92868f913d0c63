"""Every kind and option of model, tiny: a new one adds one line to `MODELS` and inherits every law."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import overload

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch, Padded, pad
from seqkit.models.build import Sizes, build_language_model, build_translation
from seqkit.models.language_model import LanguageModel
from seqkit.models.ngram import NGramModel
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.search.hypothesis import BOS, EOS
from seqkit.settings import (
    Mixed,
    Model,
    NGram,
    Plain,
    Recurrent,
    RecurrentLanguageModel,
    Transformer,
    TransformerLanguageModel,
    TranslationSettings,
)
from seqkit.state import Decodable, Memory, State, map_state, select

SOURCE, TARGET = 11, 9  # tokens in the two vocabularies, so that mistaking one for the other shows
FIRST = EOS + 1  # the lowest id that stands for text

transformer = partial(
    Transformer, width=8, heads=2, feed_forward=12, encoder_layers=1, decoder_layers=2, tied="output", dropout=0.0
)
recurrent = partial(Recurrent, width=7, embedding=6, tied="output", dropout=0.0)
plain = partial(Plain, width=6, embedding=5, tied="none", dropout=0.0)
mixed = partial(Mixed, width=8, heads=2, feed_forward=12, encoder_layers=2, tied="none", dropout=0.0)

speaker = partial(RecurrentLanguageModel, width=7, embedding=6)
reader = partial(TransformerLanguageModel, width=8, heads=2, feed_forward=12, layers=2, dropout=0.0)

MODELS: dict[str, Model] = {
    "transformer-pre": transformer(),
    "transformer-post": transformer(norm="post"),
    "transformer-learned": transformer(positions="learned", maximum_positions=64),
    "transformer-rotary": transformer(positions="rotary", heads=1),
    "transformer-gelu": transformer(activation="gelu", tied="none", encoder_layers=2),
    "transformer-swiglu": transformer(activation="swiglu", norm="post", positions="rotary"),
    "transformer-tied": transformer(tied="all"),
    "rnn-additive": recurrent(cell="rnn", attention="additive"),
    "rnn-dot-feeding": recurrent(cell="rnn", attention="dot", input_feeding=True, decoder_layers=2),
    "rnn-bilinear-deep": recurrent(cell="rnn", attention="bilinear", bidirectional=False, encoder_layers=2),
    "gru-additive-feeding": recurrent(cell="gru", attention="additive", input_feeding=True),
    "gru-dot-deep": recurrent(cell="gru", attention="dot", encoder_layers=2, decoder_layers=2, tied="none"),
    "gru-bilinear": recurrent(cell="gru", attention="bilinear", bidirectional=False),
    "lstm-additive-deep": recurrent(cell="lstm", attention="additive", encoder_layers=2, decoder_layers=2),
    "lstm-dot-ahead": recurrent(cell="lstm", attention="dot", bidirectional=False, tied="all"),
    "lstm-bilinear-feeding": recurrent(cell="lstm", attention="bilinear", input_feeding=True, decoder_layers=2),
    "mingru-additive-deep": recurrent(cell="mingru", attention="additive", encoder_layers=2, decoder_layers=2),
    "mingru-dot-feeding": recurrent(cell="mingru", attention="dot", input_feeding=True, bidirectional=False),
    "plain-rnn": plain(cell="rnn"),
    "plain-rnn-deep": plain(cell="rnn", layers=2),
    "plain-gru": plain(cell="gru", tied="output"),
    "plain-gru-deep": plain(cell="gru", layers=2),
    "plain-lstm": plain(cell="lstm", tied="all"),
    "plain-lstm-deep": plain(cell="lstm", layers=2),
    "plain-mingru": plain(cell="mingru"),
    "mixed-lstm": mixed(cell="lstm"),
    "mixed-mingru": mixed(cell="mingru"),
    "mixed-gru-feeding": mixed(cell="gru", attention="additive", input_feeding=True, tied="output"),
    "language-rnn": speaker(cell="rnn"),
    "language-rnn-deep": speaker(cell="rnn", layers=2, tied="none"),
    "language-gru": speaker(cell="gru", tied="none"),
    "language-gru-deep": speaker(cell="gru", layers=2),
    "language-mingru": speaker(cell="mingru"),
    "language-mingru-deep": speaker(cell="mingru", layers=2, tied="none", locked=True),
    "language-lstm": speaker(embedding=7),
    "language-lstm-deep": speaker(layers=2),
    "language-lstm-regularised": speaker(layers=2, locked=True, activation_penalty=2.0, slowness_penalty=1.0),
    "language-transformer-pre": reader(),
    "language-transformer-post": reader(norm="post", tied="none"),
    "language-transformer-learned": reader(positions="learned", maximum_positions=64),
    "language-transformer-learned-post": reader(positions="learned", maximum_positions=64, norm="post", layers=1),
    "language-transformer-rotary": reader(positions="rotary", heads=1, activation="swiglu"),
    "language-transformer-rotary-post": reader(positions="rotary", norm="post", activation="gelu"),
}
COUNTED: dict[str, Model] = {  # no parameters: for the laws that need none
    "ngram": NGram(order=4),
    "ngram-additive": NGram(order=3, smoothing="additive"),
}
DECODABLES = MODELS | COUNTED
TRANSLATIONS = {name: settings for name, settings in MODELS.items() if isinstance(settings, TranslationSettings)}
SELF_ATTENTION = Transformer | TransformerLanguageModel
TRANSFORMERS = {name: settings for name, settings in MODELS.items() if isinstance(settings, SELF_ATTENTION)}

# One of each kind of code, on which the quick tier tries every law; the slow tier tries it on all the others.
FIRST_TRIED = {
    "transformer-pre", "transformer-learned", "transformer-swiglu", "rnn-dot-feeding", "gru-additive-feeding",
    "gru-bilinear", "lstm-additive-deep", "mingru-additive-deep", "plain-lstm-deep", "mixed-gru-feeding",
    "language-gru", "language-mingru", "language-lstm-regularised", "language-transformer-rotary", "ngram",
}  # fmt: skip


def tried(models: Mapping[str, Model]) -> pytest.MarkDecorator:
    """A law's models, as its parameter."""
    return pytest.mark.parametrize(
        "settings",
        [
            pytest.param(settings, id=name, marks=[] if name in FIRST_TRIED else [pytest.mark.slow])
            for name, settings in models.items()
        ],
    )


every_model = tried(MODELS)
every_decodable = tried(DECODABLES)
every_translation = tried(TRANSLATIONS)
every_transformer = tried(TRANSFORMERS)

# In float64 a difference of this size is a mistake, not rounding.
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


class Sourceless(LanguageModel):
    """A language model that looks away from the source which the laws give to every model."""

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return super().start(None)


class SourcelessNGram(NGramModel):
    """The same for counted models."""

    def start(self, source: Padded | None) -> tuple[None, None]:
        return super().start(None)


AnyModel = EncoderDecoder | Sourceless | SourcelessNGram


@overload
def make(
    settings: TranslationSettings, *, seed: int = 0, target: int = TARGET, dtype: torch.dtype = ..., noise: float = 0.2
) -> EncoderDecoder: ...


@overload
def make(
    settings: Model, *, seed: int = 0, target: int = TARGET, dtype: torch.dtype = ..., noise: float = 0.2
) -> AnyModel: ...


def make(
    settings: Model, *, seed: int = 0, target: int = TARGET, dtype: torch.dtype = torch.float64, noise: float = 0.2
) -> AnyModel:
    """A model in evaluation mode. Noise on every weight: biases begin at zero, where mistakes with them do not show."""
    if isinstance(settings, NGram):
        return counted(settings, seed=seed, target=target, dtype=dtype)
    torch.manual_seed(seed)
    model: EncoderDecoder | Sourceless
    if isinstance(settings, TranslationSettings):
        joint = settings.tied == "all"
        model = build_translation(settings, Sizes(target if joint else SOURCE, target, joint))
    else:
        assert isinstance(settings, RecurrentLanguageModel | TransformerLanguageModel)
        built = build_language_model(settings, target)
        model = Sourceless(reader=built.reader, output=built.output)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.to(dtype).eval()


def counted(settings: NGram, *, seed: int, target: int, dtype: torch.dtype) -> SourcelessNGram:
    """An n-gram model of lines in which every token follows whatever it can follow."""
    random = np.random.default_rng(seed)
    lines = [random.integers(FIRST, target, size=6, dtype=np.int32) for _ in range(1500)]
    ended = [np.append(line[: random.integers(1, 7)], np.int32(EOS)) for line in lines]
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # in which counts become probabilities
    try:
        return SourcelessNGram.fit(settings, ended, vocabulary=target).eval()
    finally:
        torch.set_default_dtype(usual)


def sources(*lengths: int, size: int = TARGET, seed: int = 1) -> Padded:
    """Random sources of so many tokens, `</s>` included, right-padded: (B, S)."""
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.randint(FIRST, size, (length - 1,), generator=generator).tolist() for length in lengths)
    return pad([[*row, EOS] for row in rows])


def tokens(rows: int, length: int, *, size: int = TARGET, seed: int = 2) -> Tensor:
    """What a decoder reads: `<s>` and random tokens, (N, T)."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST, size, (rows, length), generator=generator)
    ids[:, 0] = BOS
    return ids


def batch_for(model: object) -> Batch:
    """Three rows of text of unequal length, with a source for a model that reads one."""
    ids = tokens(3, 6)
    mask = torch.arange(5) < torch.tensor([[5], [2], [4]])
    source = sources(4, 2, 5) if isinstance(model, EncoderDecoder) else None
    return Batch(source, ids[:, :-1], Padded(ids[:, 1:], mask))


def logits(model: Decodable, source: Padded, ids: Tensor, *cuts: int) -> Tensor:
    """The logits of ids (N, T), read in pieces that end before the `cuts`: (N, T, V)."""
    memory, state = model.start(source)
    if len(ids) > len(source.ids) and state is not None:
        state = select(state, torch.arange(len(source.ids)).repeat_interleave(len(ids) // len(source.ids)))
    pieces = []
    for piece in ids.tensor_split(cuts, dim=1):
        out, state = model.advance(piece, memory, state)
        state = map_state(Tensor.clone, state)
        pieces.append(out)
    return torch.cat(pieces, dim=1)
