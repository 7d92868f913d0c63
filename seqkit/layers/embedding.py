"""The embedding of tokens, the output layer over the vocabulary, and the matrix that both may share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.kernels.byte_dropout import dropout as drop

__all__ = ["Embedding", "OutputLayer"]

# Rows whose scores exist at one time in `log_probs`: as many as stay in a CPU's cache, or fill a GPU.
CHUNKS = {"cpu": 256, "cuda": 4096}


class Embedding(nn.Module):
    """Token vectors scaled by the square root of their size (Vaswani et al., 2017, section 3.4): (N, T) -> (N, T, D).

    The scaling lets one matrix serve both ends: rows of about unit length for the output layer, entries of about unit
    size for the first layer. While training, a share `dropout` of the vocabulary is dropped, each token of it at all
    its positions in a call (Gal and Ghahramani, 2016); and a share `word_dropout` of the positions, independently of
    each other (Sennrich et al., 2016, section 2.3.1).
    """

    def __init__(self, *, vocabulary: int, width: int, dropout: float = 0.0, word_dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = width**0.5
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (N, T) -> scaled vectors (N, T, D)."""
        vectors: Tensor = F.embedding(ids, self.weight)
        scaled: Tensor = vectors * (self._scales(ids) if self.training and self.dropout else self.scale)
        if self.training and self.word_dropout:
            scaled = scaled * drop(scaled.new_ones(*ids.shape, 1), self.word_dropout)
        return scaled

    def _scales(self, ids: Tensor) -> Tensor:
        """The factor of each vector of ids (N, T), zero for dropped tokens: (N, T, 1)."""
        scales = drop(self.weight.new_full((len(self.weight),), self.scale), self.dropout)
        return scales[ids].unsqueeze(-1)


class OutputLayer(nn.Module):
    """Scores of every token of the vocabulary: (..., D) -> (..., V)."""

    def __init__(self, *, vocabulary: int, width: int, shared: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * width**-0.5) if shared is None else shared
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (..., D) -> logits (..., V)."""
        scores: Tensor = F.linear(hidden, self.weight, self.bias)
        return scores

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The log-probabilities of given tokens: hidden (N, T, D), targets (N, T) -> (N, T), a few rows at a time."""
        rows, ids = hidden.flatten(0, 1), targets.flatten()
        log_probs = rows.new_empty(len(rows), dtype=torch.promote_types(rows.dtype, torch.float32))
        chunk = CHUNKS.get(rows.device.type, 1024)
        for start in range(0, len(rows), chunk):
            chunk_rows = slice(start, start + chunk)
            scores = self(rows[chunk_rows]).to(log_probs.dtype)
            log_probs[chunk_rows] = scores.gather(1, ids[chunk_rows, None])[:, 0] - scores.logsumexp(1)
        return log_probs.view_as(targets)
