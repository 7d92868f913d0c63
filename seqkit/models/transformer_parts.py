"""The parts of which every Transformer is made, from its settings: attention, layers, positions, the last norm."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.positions import LearnedPositions, SinusoidalPositions
from seqkit.layers.transformer import DecoderLayer, EncoderLayer, FeedForward
from seqkit.settings import SelfAttention, Transformer

__all__ = ["attention", "decoder_layers", "encoder_layers", "last_norm", "positions"]


def attention(settings: SelfAttention, *, rotary: bool) -> MultiHeadAttention:
    """One multi-head attention, over a layer's own input or over a source."""
    return MultiHeadAttention(
        width=settings.width, heads=settings.heads, dropout=settings.attention_dropout, rotary=rotary
    )


def encoder_layers(settings: SelfAttention, count: int) -> Iterator[EncoderLayer]:
    """`count` layers of self-attention and feed-forward."""
    return (
        EncoderLayer(
            attention=attention(settings, rotary=settings.positions == "rotary"),
            feed_forward=FeedForward(width=settings.width, inner=settings.feed_forward, activation=settings.activation),
            width=settings.width,
            dropout=settings.dropout,
            norm=settings.norm,
        )
        for _ in range(count)
    )


def decoder_layers(settings: Transformer, count: int) -> Iterator[DecoderLayer]:
    """`count` layers of causal self-attention, cross-attention and feed-forward."""
    return (
        DecoderLayer(
            attention=attention(settings, rotary=settings.positions == "rotary"),
            cross_attention=attention(settings, rotary=False),
            feed_forward=FeedForward(width=settings.width, inner=settings.feed_forward, activation=settings.activation),
            width=settings.width,
            dropout=settings.dropout,
            norm=settings.norm,
        )
        for _ in range(count)
    )


def last_norm(settings: SelfAttention) -> nn.Module:
    """The norm of the last layer's output, where sub-layers have theirs before them; otherwise the identity."""
    return nn.LayerNorm(settings.width) if settings.norm == "pre" else nn.Identity()


def positions(settings: SelfAttention) -> nn.Module:
    """The module that adds positions to token vectors; it is called with the position of the first token."""
    match settings.positions:
        case "sinusoidal":
            return SinusoidalPositions(settings.width)
        case "learned":
            return LearnedPositions(settings.width, maximum=settings.maximum_positions)
        case "rotary":
            return NoPositions()


class NoPositions(nn.Module):
    """Adds nothing: rotary attention encodes positions itself."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x (N, T, D), unchanged."""
        return x
