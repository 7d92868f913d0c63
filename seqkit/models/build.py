"""Settings -> module: the one `match` over the model kinds."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from seqkit.errors import ConfigError
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.models.decoders import PlainDecoder, RecurrentDecoder, TransformerDecoder
from seqkit.models.encoders import RecurrentEncoder, TransformerEncoder
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Mixed, Model, Plain, Recurrent, Transformer

__all__ = ["Sizes", "build"]


class Sizes(NamedTuple):
    """How many tokens each vocabulary has, and whether they are the same vocabulary."""

    source: int
    target: int
    joint: bool


def build(settings: Model, sizes: Sizes) -> EncoderDecoder:
    """A model with fresh weights (drawn from torch's global generator)."""
    size = settings.width if isinstance(settings, Transformer | Mixed) else settings.embedding
    if settings.tied == "all" and not sizes.joint:
        raise ConfigError('model.tied="all" needs one vocabulary for both languages', "set text.joint=true")
    source = Embedding(vocabulary=sizes.source, width=size)
    target = source if settings.tied == "all" else Embedding(vocabulary=sizes.target, width=size)
    output = OutputLayer(vocabulary=sizes.target, width=size, shared=None if settings.tied == "none" else target.weight)
    match settings:
        case Transformer():
            return EncoderDecoder(
                encoder=TransformerEncoder(settings, source),
                decoder=TransformerDecoder(settings, target),
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
                encoder=TransformerEncoder(_mixed_encoder(settings), source),
                decoder=RecurrentDecoder(settings, target, size=size),
                output=output,
            )
        case _:
            assert_never(settings)


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
