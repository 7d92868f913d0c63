"""A stack of Transformer layers, and what training may do to it from outside: skip layers, or recompute them."""

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
    """Layers that read each other's outputs, the first one the input.

    While training, a share `layer_drop` of them is skipped at each call (LayerDrop; Fan et al., 2020). With `recompute`
    training keeps only each layer's inputs and calls it again on the way back, under the same dropout (Chen et al.,
    2016). The layers themselves know of neither.
    """

    def __init__(
        self, layers: Iterable[EncoderLayer | DecoderLayer], *, layer_drop: float = 0.0, recompute: bool = False
    ) -> None:
        super().__init__(layers)
        self.layer_drop = layer_drop
        self.recompute = recompute

    def over_source(self, x: Tensor, mask: Tensor) -> Tensor:
        """Every position sees every real one: x (B, S, D), mask (B, S) -> (B, S, D)."""
        for layer in self:
            if not self._skips():
                x = self._call(cast("Callable[..., Tensor]", layer), x, mask)
        return x

    def over_past(
        self, x: Tensor, state: Sequence[KeyValues] | None, memory: Sequence[CrossMemory] | None = None
    ) -> tuple[Tensor, tuple[KeyValues, ...]]:
        """Every token sees itself, those before it and, where there is a memory, its source: x (N, T, D) -> (N, T, D)
        and the new state, one a layer."""
        states: list[KeyValues] = []
        for index, layer in enumerate(self):
            past = None if state is None else state[index]
            if self._skips():
                known = cast(EncoderLayer, layer).pass_over(x, past)
            elif memory is None:
                x, known = self._call(cast(EncoderLayer, layer).over_past, x, past)
            else:
                x, known = self._call(cast(DecoderLayer, layer), x, memory[index], past)
            states.append(known)
        return x, tuple(states)

    def _skips(self) -> bool:
        """Whether this call skips the next layer."""
        return self.training and self.layer_drop > 0 and float(torch.rand(())) < self.layer_drop

    def _call(self, layer: Callable[..., Result], *inputs: Any) -> Result:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return layer(*inputs)
        arithmetic = current_arithmetic()  # the second call comes when the arithmetic of the first is not set any more
        result: Result = checkpoint(
            layer,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), calculating(arithmetic)),
        )
        return result
