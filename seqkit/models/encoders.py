"""Encoders: a padded source -> one vector for each position."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding
from seqkit.layers.positions import LearnedPositions, SinusoidalPositions
from seqkit.layers.recurrent import BidirectionalStack
from seqkit.layers.stack import LayerStack
from seqkit.layers.transformer import EncoderLayer, FeedForward
from seqkit.settings import Recurrent, SelfAttention, Transformer

__all__ = ["Encoder", "RecurrentEncoder", "TransformerEncoder", "positions", "self_attention_layers"]


class Encoder(nn.Module):
    """A padded source, ids (B, S) -> one vector for each position, (B, S, D); what stands at padding is meaningless."""

    embedding: Embedding
    dropout: Dropout

    def forward(self, source: Padded) -> Tensor:
        raise NotImplementedError


class RecurrentEncoder(Encoder):
    """A recurrent stack over the source, in one direction or both (Bahdanau et al., 2015)."""

    def __init__(self, settings: Recurrent, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.dropout = Dropout(settings.dropout)
        self.stack = BidirectionalStack(
            kind=settings.cell,
            inputs=settings.embedding,
            width=settings.width,
            layers=settings.encoder_layers,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout,
        )

    def forward(self, source: Padded) -> Tensor:
        """ids (B, S) -> (B, S, D)."""
        encoded: Tensor = self.stack(self.dropout(self.embedding(source.ids)), source.mask)
        return encoded


class TransformerEncoder(Encoder):
    """Self-attention over the source (Vaswani et al., 2017)."""

    def __init__(self, settings: Transformer, embedding: Embedding, *, recompute: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions(settings)
        self.dropout = Dropout(settings.dropout)
        self.layers = LayerStack(
            self_attention_layers(settings, settings.encoder_layers),
            layer_drop=settings.layer_drop,
            recompute=recompute,
        )
        self.norm: nn.Module = nn.LayerNorm(settings.width) if settings.norm == "pre" else nn.Identity()

    def forward(self, source: Padded) -> Tensor:
        """ids (B, S) -> (B, S, D)."""
        x = self.dropout(self.positions(self.embedding(source.ids)))
        encoded: Tensor = self.norm(self.layers.bidirectional(x, source.mask))
        return encoded


def self_attention_layers(settings: SelfAttention, count: int) -> Iterator[EncoderLayer]:
    """`count` layers of self-attention and feed-forward."""
    return (
        EncoderLayer(
            attention=MultiHeadAttention(
                width=settings.width,
                heads=settings.heads,
                dropout=settings.attention_dropout,
                rotary=settings.positions == "rotary",
            ),
            feed_forward=FeedForward(width=settings.width, inner=settings.feed_forward, activation=settings.activation),
            width=settings.width,
            dropout=settings.dropout,
            norm=settings.norm,
        )
        for _ in range(count)
    )


class NoPositions(nn.Module):
    """Adds nothing: rotary attention tells places itself."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(N, T, D) -> the same."""
        return x


def positions(settings: SelfAttention) -> nn.Module:
    """What is added to token vectors to tell their places; called with the place of the first token."""
    match settings.positions:
        case "sinusoidal":
            return SinusoidalPositions(settings.width)
        case "learned":
            return LearnedPositions(settings.width, maximum=settings.maximum_positions)
        case "rotary":
            return NoPositions()
