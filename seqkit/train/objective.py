"""What is trained: a model and a loss as one module, the unit that precision and parallelism are wrapped around."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from seqkit.batch import Batch
from seqkit.errors import DataError
from seqkit.layers.linear import products_in
from seqkit.loss import Tally, cross_entropy
from seqkit.r_drop import agreeing_cross_entropy
from seqkit.state import Features, Output, State, Trainable, select

__all__ = ["Objective"]

MULTIPLE = 8  # of columns that compiled layers read: fewer shapes, and those that tensor cores like


class Objective(nn.Module):
    """Masked cross-entropy of a model's predictions."""

    def __init__(
        self,
        model: nn.Module,
        *,
        smoothing: float,
        r_drop: float = 0.0,
        layers: torch.dtype = torch.float32,
        products: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        """`r_drop` is the weight of the agreement of two readings; with 0, as outside of training, there is but one.

        `layers` is the arithmetic of the layers (autocast), `products` that of the output layer's products. With
        `compiled` torch compiles all work before the loss, which has few and large operations as it is.
        """
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.r_drop = r_drop
        self.layers = layers
        self.products = products
        self.compiled = compiled
        # A function is compiled, not the model: so the names of its weights stay what they are.
        self._read = torch.compile(self.read, dynamic=True) if compiled else self.read

    def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
        """Teacher forcing over one batch: the summed loss, and the state behind its last tokens."""
        batch = batch.widened(MULTIPLE) if self.compiled else batch
        if self.training and self.r_drop and torch.is_grad_enabled():
            return self._twice(batch, state)
        with self._arithmetic(batch.targets.ids.device):
            found = self._read(batch, state)
        output = cast(Output, self.model.output)
        tally = cross_entropy(
            _wide(found.hidden), output, batch.targets, smoothing=self.smoothing, products=self.products
        )
        if found.penalty is not None:
            penalty = found.penalty.masked_fill(~batch.targets.mask, 0).sum()
            tally = dataclasses.replace(tally, objective=tally.objective + penalty)
        return tally, found.state

    def _twice(self, batch: Batch, state: State) -> tuple[Tally, State]:
        """The same with every row read twice in one batch, each time under dropout of its own."""
        own = torch.arange(len(batch.targets.ids), device=batch.targets.ids.device)
        both = own.repeat(2)
        doubled = batch.rows(both)
        with self._arithmetic(own.device):
            found = self._read(doubled, select(state, both))
        tally = agreeing_cross_entropy(
            _wide(found.hidden),
            cast(Output, self.model.output),
            batch.targets,
            weight=self.r_drop,
            smoothing=self.smoothing,
            products=self.products,
        )
        if found.penalty is not None:
            penalty = found.penalty.masked_fill(~doubled.targets.mask, 0).sum() / 2
            tally = dataclasses.replace(tally, objective=tally.objective + penalty)
        return tally, select(found.state, own)

    def read(self, batch: Batch, state: State) -> Features:
        """What the output layer predicts the targets from: (B, T, D), and the state behind it."""
        if batch.inputs is None:
            raise DataError("this batch has labels, not a sequence to predict")
        model = cast(Trainable, self.model)
        memory, first = model.start(batch.source)
        return model.features(batch.inputs, memory, first if state is None else state)

    @contextlib.contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Within the body every module is called as it stands."""
        kept, self._read = self._read, self.read
        try:
            yield
        finally:
            self._read = kept

    def _arithmetic(self, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """How the layers calculate. On a CPU only their products are narrowed: converting the rest costs more."""
        if self.layers == torch.float32:
            return contextlib.nullcontext()
        if device.type == "cpu" and not self.compiled:
            return products_in(self.layers)
        return torch.autocast(device.type, self.layers)


def _wide(hidden: Tensor) -> Tensor:
    return hidden.float() if hidden.dtype in (torch.bfloat16, torch.float16) else hidden
