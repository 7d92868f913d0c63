"""A loss as sums and counts, which add up over batches and processes; means are taken at the end."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """The loss of a set of positions; only the properties divide by the count."""

    objective: Tensor  # () the minimised quantity, summed (label smoothing included)
    nll: Tensor  # () plain negative log-likelihood, summed, in nats
    tokens: Tensor  # () how many positions were counted

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.objective + other.objective, self.nll + other.nll, self.tokens + other.tokens)

    def detach(self) -> Tally:
        """The same sums, cut from the graph."""
        return Tally(self.objective.detach(), self.nll.detach(), self.tokens.detach())

    @property
    def loss(self) -> float:
        """Plain negative log-likelihood per token, in nats; 0 if nothing was counted."""
        return float(self.nll) / max(1, int(self.tokens))

    @property
    def perplexity(self) -> float:
        """exp(loss), per token."""
        return float(torch.tensor(self.loss, dtype=torch.float64).exp())
