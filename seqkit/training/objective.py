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
from seqkit.kernels.arithmetic import Arithmetic, calculating
from seqkit.loss import Tally, cross_entropy, r_drop_cross_entropy
from seqkit.settings import Recipe
from seqkit.settings.automatic import resolve
from seqkit.state import Features, Output, State, Trainable, select
from seqkit.training.precision import Precision, precision_of

__all__ = ["Objective", "build_objective"]

MULTIPLE = 8  # of columns that compiled layers read: fewer shapes, and those that tensor cores like


class Objective(nn.Module):
    """Masked cross-entropy of a model's predictions."""

    def __init__(
        self,
        model: nn.Module,
        *,
        smoothing: float,
        r_drop: float = 0.0,
        precision: Precision | None = None,
        compiled: bool = False,
    ) -> None:
        """`r_drop` is the weight of the agreement of two readings; with 0, as outside of training, there is but one.

        With `compiled` torch compiles all work before the loss, which has few and large operations as it is.
        """
        super().__init__()
        self.model = model
        self.smoothing = smoothing
        self.r_drop = r_drop
        self.precision = precision or Precision()
        self.compiled = compiled
        # A function is compiled, not the model: so the names of its weights stay what they are.
        self._features = torch.compile(self.features, dynamic=True) if compiled else self.features

    def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
        """Teacher forcing over one batch: the summed loss, and the state behind its last tokens."""
        batch = batch.padded_to_multiple(MULTIPLE) if self.compiled else batch
        if self.training and self.r_drop and torch.is_grad_enabled():
            return self._twice(batch, state)
        with self._calculating(batch.targets.ids.device):
            features = self._features(batch, state)
        tally = cross_entropy(
            _at_least_float32(features.hidden),
            cast(Output, self.model.output),
            batch.targets,
            smoothing=self.smoothing,
            products=self.precision.output,
        )
        if features.penalty is not None:
            penalty = features.penalty.masked_fill(~batch.targets.mask, 0).sum()
            tally = dataclasses.replace(tally, objective=tally.objective + penalty)
        return tally, features.state

    def _twice(self, batch: Batch, state: State) -> tuple[Tally, State]:
        """R-Drop: every row is read twice in one batch, each time under dropout of its own."""
        rows = torch.arange(len(batch.targets.ids), device=batch.targets.ids.device)
        both = rows.repeat(2)
        doubled = batch.rows(both)
        with self._calculating(rows.device):
            features = self._features(doubled, select(state, both))
        tally = r_drop_cross_entropy(
            _at_least_float32(features.hidden),
            cast(Output, self.model.output),
            batch.targets,
            weight=self.r_drop,
            smoothing=self.smoothing,
            products=self.precision.output,
        )
        if features.penalty is not None:
            penalty = features.penalty.masked_fill(~doubled.targets.mask, 0).sum() / 2
            tally = dataclasses.replace(tally, objective=tally.objective + penalty)
        return tally, select(features.state, rows)

    def features(self, batch: Batch, state: State) -> Features:
        """What the output layer predicts the targets from: (B, T, D), and the state behind it."""
        if batch.inputs is None:
            raise DataError("this batch has labels, not a sequence to predict")
        model = cast(Trainable, self.model)
        memory, first = model.start(batch.source)
        return model.features(batch.inputs, memory, first if state is None else state)

    @contextlib.contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Within the body every module is called as it stands."""
        kept, self._features = self._features, self.features
        try:
            yield
        finally:
            self._features = kept

    @contextlib.contextmanager
    def _calculating(self, device: torch.device) -> Iterator[None]:
        """How the layers calculate. On a CPU only their products are narrowed: converting the rest costs more."""
        dtype = self.precision.layers
        if dtype == torch.float32 or (device.type == "cpu" and not self.compiled):
            products, autocast = (None if dtype == torch.float32 else dtype), False
        else:
            products, autocast = None, True
        with (
            calculating(Arithmetic(products, self.precision.byte_dropout)),
            torch.autocast(device.type, dtype) if autocast else contextlib.nullcontext(),
        ):
            yield


def build_objective(
    recipe: Recipe, model: nn.Module, device: torch.device, *, kind: type[Objective] = Objective
) -> Objective:
    """What a recipe minimises, as one module."""
    settings = resolve(recipe).train
    assert settings.label_smoothing != "auto"  # it is resolved
    return kind(
        model,
        smoothing=settings.label_smoothing,
        r_drop=settings.r_drop,
        precision=precision_of(recipe, device),
        # The kernels of recurrent layers are whole already, and the compiler would only stumble over them.
        compiled=settings.compile is True and recipe.model.compilable,
    )


def _at_least_float32(hidden: Tensor) -> Tensor:
    return hidden.float() if hidden.dtype in (torch.bfloat16, torch.float16) else hidden
