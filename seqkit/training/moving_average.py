"""A running average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seqkit.parallel.parameters import named_tensors
from seqkit.parallel.shards import local_shard, shard_like

__all__ = ["Average"]


class Average:
    """The average of a model's parameters in training, kept beside them (Polyak and Juditsky, 1992).

    With a decay it is exponential and begins at once. Without, it is the mean of all weights since `begin`; until then
    there is none, and the weights speak for themselves.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self.updates = 0
        self.current = list(named_tensors(model).values())
        self.names = list(named_tensors(model))
        self.means: list[Tensor] = []
        if decay is not None:
            self.begin()

    @property
    def begun(self) -> bool:
        """Whether there is an average."""
        return bool(self.means)

    def begin(self) -> None:
        """Begin with the current weights."""
        self.updates = 0
        self.means = [tensor.detach().clone() for tensor in self.current]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the current weights. An exponential average is quick at first, to forget its start."""
        if not self.begun:
            return
        self.updates += 1
        if self.decay is None:
            weight = 1 / (1 + self.updates)
        else:
            weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(map(local_shard, self.means)), list(map(local_shard, self.current)), weight)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the weights, for validation."""
        if not self.begun:
            yield
            return
        kept = [tensor.detach().clone() for tensor in self.current]
        self._set(self.means)
        try:
            yield
        finally:
            self._set(kept)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name; none before the beginning."""
        return dict(zip(self.names, self.means, strict=True)) if self.begun else {}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Go on from saved averages."""
        self.begin()
        self.updates = updates
        for name, mean in zip(self.names, self.means, strict=True):
            mean.copy_(shard_like(tensors[name], mean))

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for tensor, value in zip(self.current, values, strict=True):
            tensor.copy_(value)
