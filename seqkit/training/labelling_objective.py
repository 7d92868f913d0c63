"""What is trained when every token has a label: an encoder and a loss as one module."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor

from seqkit.batch import Batch, Padded
from seqkit.errors import DataError
from seqkit.state import Features, State
from seqkit.training.objective import Objective

__all__ = ["LabellingObjective"]


class Labels(Protocol):
    """All that training knows of a labeller, besides its output layer."""

    def features(self, source: Padded) -> Tensor:
        """What the output layer reads at every position: (B, S) -> (B, S, D)."""
        ...


class LabellingObjective(Objective):
    """Masked cross-entropy of a model's labels; nothing is carried from batch to batch."""

    def features(self, batch: Batch, state: State) -> Features:
        """What the output layer chooses the labels from: (B, S, D)."""
        if batch.source is None or batch.inputs is not None:
            raise DataError("this batch has a sequence to predict, not labels")
        return Features(cast(Labels, self.model).features(batch.source), None)
