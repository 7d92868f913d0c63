"""Transformer layers with the norm before or after each sub-layer."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.linear import feed_forward
from seqkit.layers.attention import CrossMemory, KeyValues, MultiHeadAttention
from seqkit.layers.dropout import Dropout
from seqkit.layers.projection import Projection

__all__ = ["Activation", "DecoderLayer", "EncoderLayer", "FeedForward", "Norm", "Residual"]

Activation = Literal["relu", "gelu", "swiglu"]
Norm = Literal["pre", "post"]


class FeedForward(nn.Module):
    """Two linear maps with an activation between; swiglu gates one of two inner maps with the other (Shazeer, 2020)."""

    def __init__(self, *, width: int, inner: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.inner = Projection(width, inner)
        self.gate = Projection(width, inner) if activation == "swiglu" else None
        self.outer = Projection(inner, width)
        for linear in (self.inner, self.gate, self.outer):
            if linear is not None:
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        if self.gate is not None:
            gated: Tensor = self.outer(F.silu(self.gate(x)) * self.inner(x))
            return gated
        assert self.activation != "swiglu"
        return feed_forward(x, self.inner, self.outer, self.activation)


class Residual(nn.Module):
    """The frame around a sub-layer: a norm, dropout, and the way past it."""

    def __init__(self, *, width: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.pre = norm == "pre"

    def before(self, x: Tensor) -> Tensor:
        """What the sub-layer reads."""
        normed: Tensor = self.norm(x) if self.pre else x
        return normed

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Input x and the sub-layer's answer y, joined."""
        joined: Tensor = x + self.dropout(y)
        return joined if self.pre else self.norm(joined)


class EncoderLayer(nn.Module):
    """Self-attention, over a whole source or over the past, then feed-forward (Vaswani et al., 2017)."""

    methods = ("over_past",)  # ways to call it, besides the usual one

    def __init__(
        self, *, attention: MultiHeadAttention, feed_forward: FeedForward, width: int, dropout: float, norm: Norm
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.around_attention = Residual(width=width, dropout=dropout, norm=norm)
        self.around_feed_forward = Residual(width=width, dropout=dropout, norm=norm)

    @property
    def called_apart(self) -> dict[nn.Module, tuple[str, ...]]:
        """Parts that are called before the layer's own turn, and by which methods."""
        return {}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, D), mask (B, S) -> (B, S, D)."""
        frame = self.around_attention
        x = frame.after(x, self.attention.over_source(frame.before(x), mask))
        frame = self.around_feed_forward
        return frame.after(x, self.feed_forward(frame.before(x)))

    def over_past(self, x: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Each token sees itself and those before it: x (N, T, D) -> (N, T, D) and what is known now."""
        frame = self.around_attention
        attended, past = self.attention.over_past(frame.before(x), past)
        x = frame.after(x, attended)
        frame = self.around_feed_forward
        return frame.after(x, self.feed_forward(frame.before(x))), past

    def pass_over(self, x: Tensor, past: KeyValues | None) -> KeyValues:
        """What is known after x (N, T, D) where this layer did not read it."""
        return self.attention.remember(self.around_attention.before(x), past)


class DecoderLayer(nn.Module):
    """Self-attention over the past, attention over the source, then feed-forward (Vaswani et al., 2017)."""

    methods = ()

    def __init__(
        self,
        *,
        attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention,
        feed_forward: FeedForward,
        width: int,
        dropout: float,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.around_attention = Residual(width=width, dropout=dropout, norm=norm)
        self.around_cross_attention = Residual(width=width, dropout=dropout, norm=norm)
        self.around_feed_forward = Residual(width=width, dropout=dropout, norm=norm)

    @property
    def called_apart(self) -> dict[nn.Module, tuple[str, ...]]:
        """Parts that are called before the layer's own turn, and by which methods: a source is projected once."""
        return {self.cross_attention: ("prepare", "over_memory")}

    def after_past(self, x: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """The first sub-layer: x (N, T, D) after attention over the past, and what is known now."""
        attended, past = self.attention.over_past(self.around_attention.before(x), past)
        return self.around_attention.after(x, attended), past

    def pass_over(self, x: Tensor, past: KeyValues | None) -> KeyValues:
        """What is known after x (N, T, D) where this layer did not read it."""
        return self.attention.remember(self.around_attention.before(x), past)

    def forward(self, x: Tensor, memory: CrossMemory, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """x (N, T, D) -> (N, T, D) and what is known now."""
        x, past = self.after_past(x, past)
        frame = self.around_cross_attention
        x = frame.after(x, self.cross_attention.over_memory(frame.before(x), memory))
        frame = self.around_feed_forward
        return frame.after(x, self.feed_forward(frame.before(x))), past

    def weights(self, x: Tensor, memory: CrossMemory, past: KeyValues | None, *, head: int | None = None) -> Tensor:
        """Where each token looks in the source, by one head or all: x (N, T, D) -> (N, T, S)."""
        x, _ = self.after_past(x, past)
        return self.cross_attention.weights(self.around_cross_attention.before(x), memory, head=head)
