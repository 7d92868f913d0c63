"""Transformer layers: sub-layers of attention and feed-forward, each within a residual connection with a norm."""

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
    """W f(V x) with biases, for f = relu (Vaswani et al., 2017, section 3.3) or gelu (Hendrycks and Gimpel, 2016); for
    swiglu W (silu(G x) * (V x)) with a third matrix G (Shazeer, 2020)."""

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
            result: Tensor = self.outer(F.silu(self.gate(x)) * self.inner(x))
            return result
        assert self.activation != "swiglu"
        return feed_forward(x, self.inner, self.outer, self.activation)


class Residual(nn.Module):
    """The residual connection around a sub-layer f: x + dropout(f(norm(x))) with the norm before it ("pre"; Xiong et
    al., 2020), norm(x + dropout(f(x))) with the norm after it ("post"; Vaswani et al., 2017)."""

    def __init__(self, *, width: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.pre = norm == "pre"

    def sublayer_input(self, x: Tensor) -> Tensor:
        """The input of the sub-layer, (N, T, D) -> (N, T, D)."""
        result: Tensor = self.norm(x) if self.pre else x
        return result

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of x and the sub-layer's output y, normed where the norm comes after: (N, T, D) each -> (N, T, D)."""
        result: Tensor = x + self.dropout(y)
        return result if self.pre else self.norm(result)


class EncoderLayer(nn.Module):
    """Self-attention, bidirectional or causal, then feed-forward (Vaswani et al., 2017)."""

    forward_methods = ("causal",)  # methods that compute as `forward` does

    def __init__(
        self, *, attention: MultiHeadAttention, feed_forward: FeedForward, width: int, dropout: float, norm: Norm
    ) -> None:
        super().__init__()
        self.attention = attention
        self.feed_forward = feed_forward
        self.around_attention = Residual(width=width, dropout=dropout, norm=norm)
        self.around_feed_forward = Residual(width=width, dropout=dropout, norm=norm)

    @property
    def separately_called(self) -> dict[nn.Module, tuple[str, ...]]:
        """Submodules that are called other than by this layer's forward methods, and by which methods of theirs."""
        return {}

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Every position attends to every real one: x (B, S, D), mask (B, S) -> (B, S, D)."""
        residual = self.around_attention
        x = residual.add(x, self.attention.bidirectional(residual.sublayer_input(x), mask))
        residual = self.around_feed_forward
        return residual.add(x, self.feed_forward(residual.sublayer_input(x)))

    def causal(self, x: Tensor, cache: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Each token attends to itself and those before it: x (N, T, D) -> (N, T, D), the cache with x."""
        residual = self.around_attention
        attended, cache = self.attention.causal(residual.sublayer_input(x), cache)
        x = residual.add(x, attended)
        residual = self.around_feed_forward
        return residual.add(x, self.feed_forward(residual.sublayer_input(x))), cache

    def skip(self, x: Tensor, cache: KeyValues | None) -> KeyValues:
        """The cache with x (N, T, D), where this layer is skipped."""
        return self.attention.extend(self.around_attention.sublayer_input(x), cache)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the source, then feed-forward (Vaswani et al., 2017)."""

    forward_methods = ()

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
    def separately_called(self) -> dict[nn.Module, tuple[str, ...]]:
        """Submodules that are called other than by this layer's forward methods, and by which methods of theirs: the
        source is projected before the first call."""
        return {self.cross_attention: ("prepare", "cross")}

    def self_attend(self, x: Tensor, cache: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """The first sub-layer, causal self-attention: x (N, T, D) -> (N, T, D), the cache with x."""
        attended, cache = self.attention.causal(self.around_attention.sublayer_input(x), cache)
        return self.around_attention.add(x, attended), cache

    def skip(self, x: Tensor, cache: KeyValues | None) -> KeyValues:
        """The cache with x (N, T, D), where this layer is skipped."""
        return self.attention.extend(self.around_attention.sublayer_input(x), cache)

    def forward(self, x: Tensor, memory: CrossMemory, cache: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Each token attends to those before it, then to the source: x (N, T, D) -> (N, T, D), the cache with x."""
        x, cache = self.self_attend(x, cache)
        residual = self.around_cross_attention
        x = residual.add(x, self.cross_attention.cross(residual.sublayer_input(x), memory))
        residual = self.around_feed_forward
        return residual.add(x, self.feed_forward(residual.sublayer_input(x))), cache

    def weights(self, x: Tensor, memory: CrossMemory, cache: KeyValues | None, *, head: int | None = None) -> Tensor:
        """The weights of cross-attention, of one head or their mean: x (N, T, D) -> (N, T, S)."""
        x, _ = self.self_attend(x, cache)
        return self.cross_attention.weights(self.around_cross_attention.sublayer_input(x), memory, head=head)
