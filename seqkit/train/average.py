"""A moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqkit.train.weights import named_tensors

__all__ = ["Average"]


class Average:
    """The exponential moving average of a model's parameters, kept beside them (Polyak and Juditsky, 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.current = list(named_tensors(model).values())
        self.names = list(named_tensors(model))
        self.means = [tensor.detach().clone() for tensor in self.current]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the current weights; the first updates move faster, so that the start is soon forgotten."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.means, self.current, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the weights, for validation."""
        kept = [tensor.detach().clone() for tensor in self.current]
        self._set(self.means)
        try:
            yield
        finally:
            self._set(kept)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self.names, self.means, strict=True))

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Go on from saved averages."""
        self.updates = updates
        for name, mean in zip(self.names, self.means, strict=True):
            mean.copy_(tensors[name])

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self.current, values, strict=True):
            tensor.copy_(value)
