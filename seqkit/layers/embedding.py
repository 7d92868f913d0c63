"""Token vectors in, token scores out: embeddings, the output layer, and the matrix they may share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Embedding", "OutputLayer"]


class Embedding(nn.Module):
    """Token vectors scaled by the square root of their size (Vaswani et al., 2017, section 3.4): (N, T) -> (N, T, D).

    The scaling lets one matrix serve both ends: rows of about unit length for the output layer, entries of about unit
    size for the first layer.
    """

    def __init__(self, *, vocabulary: int, width: int) -> None:
        super().__init__()
        self.scale = width**0.5
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = F.embedding(ids, self.weight)
        scaled: Tensor = vectors * self.scale
        return scaled


class OutputLayer(nn.Module):
    """Scores of every token of the vocabulary: (..., D) -> (..., V)."""

    def __init__(self, *, vocabulary: int, width: int, shared: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5) if shared is None else shared
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        scores: Tensor = F.linear(hidden, self.weight, self.bias)
        return scores
