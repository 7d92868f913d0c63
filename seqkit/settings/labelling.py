"""Sequence labelling: `[model]` for one label a token."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from seqkit.settings.data import Purpose
from seqkit.settings.model import PARALLEL_CELLS, Activation, Cell, ModelSettings, Norm, Positions, Probability, Width

__all__ = ["LabellerSettings", "RecurrentLabeller", "TransformerLabeller"]


class RecurrentLabeller(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="recurrent_labeller"):
    """Recurrent layers that read both ways, and a classifier at every position (Graves and Schmidhuber, 2005)."""

    purpose: ClassVar[Purpose] = "labelling"

    cell: Annotated[Cell, Meta(description="recurrent cell")] = "lstm"
    width: Width = 256
    layers: Annotated[int, Meta(ge=1, description="recurrent layers")] = 1
    bidirectional: Annotated[bool, Meta(description="read the sentence in both directions")] = True
    embedding: Annotated[int, Meta(ge=1, description="size of token embeddings")] = 128
    dropout: Annotated[Probability, Meta(description="dropout on embeddings, between layers and before the output")] = (
        0.2
    )

    @property
    def parallel_in_time(self) -> bool:
        """Some cells need no state to read their input."""
        return self.cell in PARALLEL_CELLS


class TransformerLabeller(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="transformer_labeller"):
    """Self-attention over the whole sentence, and a classifier at every position (Vaswani et al., 2017)."""

    purpose: ClassVar[Purpose] = "labelling"

    width: Width = 128
    layers: Annotated[int, Meta(ge=1, description="self-attention layers")] = 2
    heads: Annotated[int, Meta(ge=1, description="attention heads; must divide width")] = 4
    feed_forward: Annotated[int, Meta(ge=1, description="inner size of the feed-forward layers")] = 512
    activation: Activation = "relu"
    norm: Norm = "pre"
    positions: Positions = "sinusoidal"
    maximum_positions: Annotated[int, Meta(ge=1, description="longest sequence with learned positions")] = 512
    dropout: Annotated[Probability, Meta(description="dropout on embeddings and residual branches")] = 0.1
    attention_dropout: Annotated[
        Probability, Meta(description="dropout on attention weights (slow on CPU: it disables the fused kernel)")
    ] = 0.0

    recomputable: ClassVar[bool] = True
    compilable: ClassVar[bool] = True

    @property
    def parallel_in_time(self) -> bool:
        """Layers of self-attention read all positions at once."""
        return True

    @property
    def reach(self) -> int | None:
        """Learned positions end somewhere."""
        return self.maximum_positions if self.positions == "learned" else None


LabellerSettings = RecurrentLabeller | TransformerLabeller
