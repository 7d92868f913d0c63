"""Attention: single-vector scores for recurrent decoders, multi-head for Transformers, and the folding of beams.

Hypotheses of a sentence are adjacent rows, so a beam needs no copy of what belongs to the sentence: the K rows become
K times as many queries,

    queries (B*K, T, D) -> (B, K*T, D)    against    keys (B, S, D)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.additive import additive_scores
from seqkit.kernels.linear import joint_linear
from seqkit.layers.masks import causal
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
    """The source as a recurrent decoder attends to it."""

    keys: Tensor  # (B, S, A)  projected once
    values: Tensor  # (B, S, D)
    mask: Tensor  # (B, S)


class KeyValues(NamedTuple):
    """What self-attention has seen so far, one per layer."""

    keys: Tensor  # (N, H, C, D/H)
    values: Tensor  # (N, H, C, D/H)
    length: int  # tokens so far


class CrossMemory(NamedTuple):
    """The source as one Transformer decoder layer attends to it."""

    keys: Tensor  # (B, H, S, D/H)  projected once
    values: Tensor  # (B, H, S, D/H)
    mask: Tensor  # (B, 1, 1, S)


def fold(x: Tensor, sentences: int) -> Tensor:
    """Lay the rows of a sentence side by side: (B*K, T, D) -> (B, K*T, D)."""
    return x.reshape(sentences, -1, x.shape[2])


def unfold(x: Tensor, rows: int) -> Tensor:
    """Undo `fold`: (B, K*T, D) -> (B*K, T, D)."""
    return x.reshape(rows, -1, x.shape[2])


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights over the last axis that are zero where the mask is False; a row without any True is all zero."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask


class SourceAttention(nn.Module):
    """One weighted mean of the source for each query, by one of three scores.

    additive: v tanh(W q + U k) (Bahdanau et al., 2015); dot: q k / sqrt(D) after projecting both to one size;
    bilinear: q W k (Luong et al., 2015).
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
        """Where each query looks: queries (N, T, Q) -> (B, K*T, S), rows of a sentence folded."""
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
    """Multi-head attention (Vaswani et al., 2017, section 3.2.2), over its own input or over a source."""

    def __init__(self, *, width: int, heads: int, dropout: float = 0.0, rotary: bool = False) -> None:
        super().__init__()
        self.heads, self.rate, self.rotary = heads, dropout, rotary
        self.query = Projection(width, width)
        # A bias on keys shifts all scores of a query alike, which softmax does not see: it could never be trained.
        self.key = Projection(width, width, bias=False)
        self.value = Projection(width, width)
        self.output = Projection(width, width)
        for projection in (self.query, self.key, self.value, self.output):
            nn.init.xavier_uniform_(projection.weight)
        for projection in (self.query, self.value, self.output):
            nn.init.zeros_(projection.bias)

    def over_source(self, x: Tensor, mask: Tensor) -> Tensor:
        """Every position of a whole source sees every real one: x (B, S, D), mask (B, S) -> (B, S, D)."""
        query, key, value = self._project(x, start=0)
        return self._join(self._attend(query, key, value, mask[:, None, None]))

    def over_past(self, x: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """Each new token sees itself and all before it: x (N, T, D), the past -> (N, T, D), the past with x."""
        query, known = self._look_back(x, past)
        key, value, total = known
        new = x.shape[1]
        if new == 1:  # the newest token may see everything
            joined = self._attend(query, key, value, None)
        elif new == total:
            joined = self._attend(query, key, value, None, is_causal=True)
        else:  # torch's own causal mask is aligned at the top left, which is wrong behind a cache
            joined = self._attend(query, key, value, causal(new, total, x.device))
        return self._join(joined), known

    def remember(self, x: Tensor, past: KeyValues | None) -> KeyValues:
        """The past with x (N, T, D), to which nothing attended yet."""
        return self._look_back(x, past)[1]

    def prepare(self, source: Tensor, mask: Tensor) -> CrossMemory:
        """Project a source once for all steps: (B, S, D), mask (B, S)."""
        key, value = map(self._split, joint_linear(source, (self.key, self.value)))
        return CrossMemory(key, value, mask[:, None, None])

    def over_memory(self, x: Tensor, memory: CrossMemory) -> Tensor:
        """Each token sees the source of its sentence: x (N, T, D) -> (N, T, D)."""
        queries = self._split(fold(self.query(x), len(memory.keys)))  # (B, H, K*T, D/H)
        joined = self._attend(queries, memory.keys, memory.values, memory.mask)
        return unfold(self._join(joined), len(x))

    def weights(self, x: Tensor, memory: CrossMemory, *, head: int | None = None) -> Tensor:
        """Where each token looks, by one head, counted from 0, or averaged over all: x (N, T, D) -> (N, T, S)."""
        queries = self._split(fold(self.query(x), len(memory.keys)))
        scores = queries @ memory.keys.transpose(2, 3) * queries.shape[3] ** -0.5
        weights = masked_softmax(scores, memory.mask)  # (B, H, K*T, S)
        return unfold(weights.mean(1) if head is None else weights[:, head], len(x))

    def _look_back(self, x: Tensor, past: KeyValues | None) -> tuple[Tensor, KeyValues]:
        """The queries of x (N, T, D), and the past with x."""
        query, key, value = self._project(x, start=0 if past is None else past.length)
        if past is not None:
            key = torch.cat([past.keys, key], dim=2)
            value = torch.cat([past.values, value], dim=2)
        return query, KeyValues(key, value, key.shape[2])

    def _project(self, x: Tensor, *, start: int) -> tuple[Tensor, Tensor, Tensor]:
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
        joined: Tensor = self.output(x.transpose(1, 2).flatten(2))  # (N, H, T, D/H) -> (N, T, D)
        return joined
