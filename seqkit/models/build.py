"""Settings -> model: the only module that matches on the kinds of models."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from seqkit.errors import ConfigError
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.models.decoders import PlainDecoder, RecurrentDecoder, TransformerDecoder
from seqkit.models.encoders import Encoder, RecurrentEncoder, TransformerEncoder
from seqkit.models.language_model import LanguageModel, RecurrentReader, TokenReader, TransformerReader
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.settings import (
    LabellerSettings,
    Mixed,
    Model,
    NGram,
    Plain,
    Recurrent,
    RecurrentLabeller,
    RecurrentLanguageModel,
    Transformer,
    TransformerLabeller,
    TransformerLanguageModel,
    TranslationSettings,
)

__all__ = ["NeuralModel", "Sizes", "build", "build_labeller", "build_language_model", "build_translation"]

NeuralModel = EncoderDecoder | LanguageModel | SequenceLabeller


class Sizes(NamedTuple):
    """The sizes of the vocabularies, and whether both languages share one."""

    source: int
    target: int
    joint: bool


def build(settings: Model, sizes: Sizes, *, recompute: bool = False) -> NeuralModel:
    """A model with fresh weights (drawn from torch's global generator).

    With `recompute` layers of self-attention are called again in the backward pass instead of keeping activations.
    """
    match settings:
        case Transformer() | Recurrent() | Plain() | Mixed():
            return build_translation(settings, sizes, recompute=recompute)
        case RecurrentLanguageModel() | TransformerLanguageModel():
            return build_language_model(settings, sizes.target, recompute=recompute)
        case RecurrentLabeller() | TransformerLabeller():
            return build_labeller(settings, tokens=sizes.source, labels=sizes.target, recompute=recompute)
        case NGram():
            raise ConfigError("an n-gram model is counted from a text, not built", "train it")
        case _:
            assert_never(settings)


def build_translation(settings: TranslationSettings, sizes: Sizes, *, recompute: bool = False) -> EncoderDecoder:
    """An encoder-decoder with fresh weights."""
    size = settings.width if isinstance(settings, Transformer | Mixed) else settings.embedding
    if settings.tied == "all" and not sizes.joint:
        raise ConfigError('model.tied="all" needs one vocabulary for both languages', "set text.joint=true")
    word_dropout = settings.word_dropout
    source = Embedding(vocabulary=sizes.source, width=size, word_dropout=word_dropout)
    tied_all = settings.tied == "all"
    target = source if tied_all else Embedding(vocabulary=sizes.target, width=size, word_dropout=word_dropout)
    output = OutputLayer(vocabulary=sizes.target, width=size, shared=None if settings.tied == "none" else target.weight)
    match settings:
        case Transformer():
            return EncoderDecoder(
                encoder=TransformerEncoder(settings, source, recompute=recompute),
                decoder=TransformerDecoder(settings, target, recompute=recompute),
                output=output,
            )
        case Recurrent():
            return EncoderDecoder(
                encoder=RecurrentEncoder(settings, source),
                decoder=RecurrentDecoder(settings, target, size=size),
                output=output,
            )
        case Plain():
            return EncoderDecoder(
                encoder=RecurrentEncoder(_plain_encoder(settings), source),
                decoder=PlainDecoder(settings, target),
                output=output,
            )
        case Mixed():
            return EncoderDecoder(
                encoder=TransformerEncoder(_mixed_encoder(settings), source, recompute=recompute),
                decoder=RecurrentDecoder(settings, target, size=size),
                output=output,
            )
        case _:
            assert_never(settings)


def build_language_model(
    settings: RecurrentLanguageModel | TransformerLanguageModel, vocabulary: int, *, recompute: bool = False
) -> LanguageModel:
    """A neural language model with fresh weights."""
    if isinstance(settings, RecurrentLanguageModel):
        embedding = Embedding(vocabulary=vocabulary, width=settings.embedding, dropout=settings.embedding_dropout)
        reader: TokenReader = RecurrentReader(settings, embedding)
    else:
        embedding = Embedding(vocabulary=vocabulary, width=settings.width, word_dropout=settings.word_dropout)
        reader = TransformerReader(settings, embedding, recompute=recompute)
    shared = embedding.weight if settings.tied == "output" else None
    size = settings.width if shared is None else shared.shape[1]
    return LanguageModel(reader=reader, output=OutputLayer(vocabulary=vocabulary, width=size, shared=shared))


def build_labeller(
    settings: LabellerSettings, *, tokens: int, labels: int, recompute: bool = False
) -> SequenceLabeller:
    """A model with fresh weights for vocabularies of these sizes, special tokens included."""
    encoder: Encoder
    match settings:
        case RecurrentLabeller():
            encoder = RecurrentEncoder(
                _labeller_recurrence(settings), Embedding(vocabulary=tokens, width=settings.embedding)
            )
            dropout = settings.dropout
        case TransformerLabeller():
            embedding = Embedding(vocabulary=tokens, width=settings.width)
            encoder = TransformerEncoder(_labeller_transformer(settings), embedding, recompute=recompute)
            dropout = 0.0  # the last residual connection has dropout of its own
        case _:
            assert_never(settings)
    output = OutputLayer(vocabulary=labels, width=settings.width)
    return SequenceLabeller(encoder=encoder, output=output, dropout=dropout)


def _plain_encoder(settings: Plain) -> Recurrent:
    return Recurrent(
        cell=settings.cell,
        width=settings.width,
        encoder_layers=settings.layers,
        bidirectional=False,
        embedding=settings.embedding,
        dropout=settings.dropout,
    )


def _mixed_encoder(settings: Mixed) -> Transformer:
    return Transformer(
        width=settings.width,
        encoder_layers=settings.encoder_layers,
        heads=settings.heads,
        feed_forward=settings.feed_forward,
        dropout=settings.dropout,
    )


def _labeller_recurrence(settings: RecurrentLabeller) -> Recurrent:
    return Recurrent(
        cell=settings.cell,
        width=settings.width,
        encoder_layers=settings.layers,
        bidirectional=settings.bidirectional,
        embedding=settings.embedding,
        dropout=settings.dropout,
    )


def _labeller_transformer(settings: TransformerLabeller) -> Transformer:
    return Transformer(
        width=settings.width,
        encoder_layers=settings.layers,
        heads=settings.heads,
        feed_forward=settings.feed_forward,
        activation=settings.activation,
        norm=settings.norm,
        positions=settings.positions,
        maximum_positions=settings.maximum_positions,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
    )
