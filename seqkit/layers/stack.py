"""A stack of Transformer layers, some of which training may skip, or compute again in the backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqkit.kernels.arithmetic import calculating, current_arithmetic
from seqkit.layers.attention import CrossMemory, KeyValues
from seqkit.layers.transformer import DecoderLayer, EncoderLayer

__all__ = ["LayerStack"]

Result = TypeVar("Result")


class LayerStack(nn.ModuleList):
    """Layers that are called one after the other.

    While training, each is skipped with probability `layer_drop` at each call (LayerDrop; Fan et al., 2020). With
    `recompute` training keeps only each layer's inputs and calls it again in the backward pass, with the same dropout
    (Chen et al., 2016). The layers themselves know of neither.
    """

    def __init__(
        self, layers: Iterable[EncoderLayer | DecoderLayer], *, layer_drop: float = 0.0, recompute: bool = False
    ) -> None:
        super().__init__(layers)
        self.layer_drop = layer_drop
        self.recompute = recompute

    def bidirectional(self, x: Tensor, mask: Tensor) -> Tensor:
        """Every position attends to every real one: x (B, S, D), mask (B, S) -> (B, S, D)."""
        for layer in self:
            if not self._skips():
                x = self._call(cast("Callable[..., Tensor]", layer), x, mask)
        return x

    def causal(
        self, x: Tensor, state: Sequence[KeyValues] | None, memory: Sequence[CrossMemory] | None = None
    ) -> tuple[Tensor, tuple[KeyValues, ...]]:
        """Each token attends to itself, those before it and, with a memory, its source: x (N, T, D) -> (N, T, D) and
        the new state, a cache for each layer."""
        states: list[KeyValues] = []
        for index, layer in enumerate(self):
            cache = None if state is None else state[index]
            if self._skips():
                cache = cast(EncoderLayer, layer).skip(x, cache)
            elif memory is None:
                x, cache = self._call(cast(EncoderLayer, layer).causal, x, cache)
            else:
                x, cache = self._call(cast(DecoderLayer, layer), x, memory[index], cache)
            states.append(cache)
        return x, tuple(states)

    def _skips(self) -> bool:
        """Whether this call skips the next layer, drawn at random."""
        return self.training and self.layer_drop > 0 and float(torch.rand(())) < self.layer_drop

    def _call(self, layer: Callable[..., Result], *inputs: Any) -> Result:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return layer(*inputs)
        arithmetic = current_arithmetic()  # the second call comes after that of the first has been reset
        result: Result = checkpoint(
            layer,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), calculating(arithmetic)),
        )
        return result
