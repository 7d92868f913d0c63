"""Attention over a source for recurrent decoders, and multi-head attention for Transformers.

Hypotheses of a sentence are adjacent rows, so a beam needs no copies of the keys and values of its source: the K rows
are folded into K times as many queries,

    queries (B*K, T, D) -> (B, K*T, D)    against    keys (B, S, D)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.additive import additive_scores
from seqkit.kernels.linear import joint_linear
from seqkit.layers.masks import causal_mask
from seqkit.layers.positions import rotate
from seqkit.layers.projection import Projection

__all__ = [
    "AttentionMemory",
    "CrossMemory",
    "KeyValues",
    "MultiHeadAttention",
    "ScoreFunction",
    "SourceAttention",
    "fold",
    "masked_softmax",
    "unfold",
]

ScoreFunction = Literal["additive", "dot", "bilinear"]


class AttentionMemory(NamedTuple):
    """The source that a recurrent decoder attends to."""

    keys: Tensor  # (B, S, A)  projected once
    values: Tensor  # (B, S, D)
    mask: Tensor  # (B, S)


class KeyValues(NamedTuple):
    """The keys and values of all tokens so far, cached by one layer of causal self-attention."""

    keys: Tensor  # (N, H, C, D/H)
    values: Tensor  # (N, H, C, D/H)
    length: int  # C, the tokens so far


class CrossMemory(NamedTuple):
    """The keys and values of the source, for the cross-attention of one Transformer decoder layer."""

    keys: Tensor  # (B, H, S, D/H)  projected once
    values: Tensor  # (B, H, S, D/H)
    mask: Tensor  # (B, 1, 1, S)


def fold(x: Tensor, sentences: int) -> Tensor:
    """Join the adjacent rows of each sentence: (B*K, T, D) -> (B, K*T, D)."""
    return x.reshape(sentences, -1, x.shape[2])


def unfold(x: Tensor, rows: int) -> Tensor:
    """Undo `fold`: (B, K*T, D) -> (B*K, T, D)."""
    return x.reshape(rows, -1, x.shape[2])


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis, zero where the mask is False; a row without any True is all zero."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask


class SourceAttention(nn.Module):
    """A mean of the source for each query, weighted by the softmax of one of three scores of query q and source s.

    additive: v tanh(W q + U s) (Bahdanau et al., 2015); dot: (W q) (U s) / sqrt(A); bilinear: q (U s) / sqrt(A) (Luong
    et al., 2015), scaled likewise.
    """

    def __init__(self, score: ScoreFunction, *, query: int, source: int, width: int) -> None:
        super().__init__()
        self.score = score
        self.key = Projection(source, query if score == "bilinear" else width, bias=False)
        self.query = nn.Identity() if score == "bilinear" else Projection(query, width)
        self.vector = nn.Parameter(torch.randn(width) * width**-0.5) if score == "additive" else None

    def prepare(self, values: Tensor, mask: Tensor) -> AttentionMemory:
        """Project the source once: values (B, S, D), mask (B, S)."""
        return AttentionMemory(self.key(values), values, mask)

    def weights(self, queries: Tensor, memory: AttentionMemory) -> Tensor:
        """The attention weights of each query: queries (N, T, Q) -> (B, K*T, S), rows of a sentence folded."""
        queries = fold(self.query(queries), len(memory.keys))  # (B, K*T, A)
        if self.vector is not None:
            scores = additive_scores(queries, memory.keys, self.vector)
        else:
            scores = queries @ memory.keys.transpose(1, 2) * memory.keys.shape[2] ** -0.5
        return masked_softmax(scores, memory.mask[:, None])

    def forward(self, queries: Tensor, memory: AttentionMemory) -> Tensor:
        """queries (N, T, Q) -> contexts (N, T, D)."""
        return unfold(self.weights(queries, memory) @ memory.values, len(queries))


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al., 2017, section 3.2.2), over its own input or over a source.

    Each head is softmax(Q K^T / sqrt(D/H)) V; queries, keys and values are projections of the inputs to D/H.
    """

    def __init__(self, *, width: int, heads: int, dropout: float = 0.0, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rate, self.rotary = heads, dropout, rotary
        self.query = Projection(width, width)
        # A bias on keys would shift all scores of a query alike, which changes no softmax: it would have no gradient.
        self.key = Projection(width, width, bias=False)
        self.value = Projection(width, width)
        self.output = Projection(width, width)
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
        for projection in (self.query, self.value, self.output):
            nn.init.zeros_(projection.bias)

    def bidirectional(self, x: Tensor, mask: Tensor) -> Tensor:
        """Self-attention of every position to every real one: x (B, S, D), mask (B, S) -> (B, S, D)."""
        query, key, value = self._project(x, start=0)
        return self._join(self._attend(query, key, value, mask[:, None, None]))

    def causal(self, x: Tensor, cache: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Self-attention of each new token to itself and all before it: x (N, T, D) -> (N, T, D), the cache with x."""
        query, cache = self._queries_and_cache(x, cache)
        key, value, total = cache
        new = x.shape[1]
        if new == 1:  # the newest token may attend to everything
            attended = self._attend(query, key, value, None)
        elif new == total:
            attended = self._attend(query, key, value, None, is_causal=True)
        else:  # torch's own causal mask is aligned at the top left, which is wrong behind a cache
            attended = self._attend(query, key, value, causal_mask(new, total, x.device))
        return self._join(attended), cache

    def extend(self, x: Tensor, cache: KeyValues | None) -> KeyValues:
        """The cache with the keys and values of x (N, T, D), without attention."""
        return self._queries_and_cache(x, cache)[1]

    def prepare(self, source: Tensor, mask: Tensor) -> CrossMemory:
        """Project a source to keys and values, once for all steps: (B, S, D), mask (B, S)."""
        key, value = map(self._split, joint_linear(source, (self.key, self.value)))
        return CrossMemory(key, value, mask[:, None, None])

    def cross(self, x: Tensor, memory: CrossMemory) -> Tensor:
        """Cross-attention of each token to the source of its sentence: x (N, T, D) -> (N, T, D)."""
        queries = self._split(fold(self.query(x), len(memory.keys)))  # (B, H, K*T, D/H)
        attended = self._attend(queries, memory.keys, memory.values, memory.mask)
        return unfold(self._join(attended), len(x))

    def weights(self, x: Tensor, memory: CrossMemory, *, head: int | None = None) -> Tensor:
        """The weights of cross-attention, of one head, counted from 0, or their mean: x (N, T, D) -> (N, T, S)."""
        queries = self._split(fold(self.query(x), len(memory.keys)))
        scores = queries @ memory.keys.transpose(2, 3) * queries.shape[3] ** -0.5
        weights = masked_softmax(scores, memory.mask)  # (B, H, K*T, S)
        return unfold(weights.mean(1) if head is None else weights[:, head], len(x))

    def _queries_and_cache(self, x: Tensor, cache: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """The queries of x (N, T, D), and the cache with its keys and values."""
        query, key, value = self._project(x, start=0 if cache is None else cache.length)
        if cache is not None:
            key = torch.cat([cache.keys, key], dim=2)
            value = torch.cat([cache.values, value], dim=2)
        return query, KeyValues(key, value, key.shape[2])

    def _project(self, x: Tensor, *, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (N, T, D), whose first position is `start`: (N, H, T, D/H) each."""
        query, key, value = map(self._split, joint_linear(x, (self.query, self.key, self.value)))
        if self.rotary:
            query, key = rotate(query, start), rotate(key, start)
        return query, key, value

    def _split(self, x: Tensor) -> Tensor:
        return x.view(len(x), x.shape[1], self.heads, -1).transpose(1, 2)  # (N, T, D) -> (N, H, T, D/H)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, is_causal: bool = False
    ) -> Tensor:
        rate = self.rate if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p=rate, is_causal=is_causal)

    def _join(self, x: Tensor) -> Tensor:
        attended: Tensor = self.output(x.transpose(1, 2).flatten(2))  # (N, H, T, D/H) -> (N, T, D)
        return attended
