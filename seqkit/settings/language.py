"""Language models: `[model]` for texts in one language."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from seqkit.settings.data import Purpose
from seqkit.settings.model import (
    PARALLEL_CELLS,
    Activation,
    Cell,
    LayerDrop,
    ModelSettings,
    Norm,
    Positions,
    Probability,
    Width,
    WordDropout,
)

__all__ = ["LanguageModelSettings", "NGram", "RecurrentLanguageModel", "TransformerLanguageModel"]

Tying = Annotated[Literal["none", "output"], Meta(description="share the embedding with the output layer")]


class RecurrentLanguageModel(
    ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="recurrent_language_model"
):
    """Recurrent language model (Mikolov et al., 2010) with the regularisers of AWD-LSTM (Merity et al., 2018)."""

    purpose: ClassVar[Purpose] = "language"

    cell: Annotated[Cell, Meta(description="recurrent cell")] = "lstm"
    width: Width = 256
    layers: Annotated[int, Meta(ge=1, description="recurrent layers")] = 1
    embedding: Annotated[int, Meta(ge=1, description="size of token embeddings")] = 256
    tied: Tying = "output"
    dropout: Annotated[Probability, Meta(description="dropout before the output layer")] = 0.0
    input_dropout: Annotated[Probability, Meta(description="dropout on token vectors")] = 0.0
    hidden_dropout: Annotated[Probability, Meta(description="dropout between layers")] = 0.0
    locked: Annotated[
        bool, Meta(description="one dropout mask for all steps of a window instead of one a step (Gal, 2016)")
    ] = False
    embedding_dropout: Annotated[Probability, Meta(description="drop whole tokens of the vocabulary")] = 0.0
    weight_drop: Annotated[Probability, Meta(description="drop entries of the recurrent matrices")] = 0.0
    activation_penalty: Annotated[float, Meta(ge=0, description="weight of the mean square of the outputs")] = 0.0
    slowness_penalty: Annotated[
        float, Meta(ge=0, description="weight of the mean square of the change of outputs from step to step")
    ] = 0.0

    @property
    def carries_state(self) -> bool:
        """It does, from window to window."""
        return True

    @property
    def parallel_in_time(self) -> bool:
        """Some cells need no state to read their input."""
        return self.cell in PARALLEL_CELLS


class TransformerLanguageModel(
    ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="transformer_language_model"
):
    """Self-attention over the tokens so far (Vaswani et al., 2017; Radford et al., 2018)."""

    purpose: ClassVar[Purpose] = "language"

    width: Width = 256
    layers: Annotated[int, Meta(ge=1, description="self-attention layers")] = 4
    heads: Annotated[int, Meta(ge=1, description="attention heads; must divide width")] = 4
    feed_forward: Annotated[int, Meta(ge=1, description="inner size of the feed-forward layers")] = 1024
    activation: Activation = "relu"
    norm: Norm = "pre"
    positions: Positions = "sinusoidal"
    maximum_positions: Annotated[int, Meta(ge=1, description="longest sequence with learned positions")] = 512
    tied: Tying = "output"
    dropout: Annotated[Probability, Meta(description="dropout on embeddings and residual branches")] = 0.1
    attention_dropout: Annotated[
        Probability, Meta(description="dropout on attention weights (slow on CPU: it disables the fused kernel)")
    ] = 0.0
    word_dropout: WordDropout = 0.0
    layer_drop: LayerDrop = 0.0

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


class NGram(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="ngram"):
    """Counted n-grams; fitted in one pass, nothing is trained."""

    purpose: ClassVar[Purpose] = "language"

    order: Annotated[int, Meta(ge=1, le=16, description="tokens in the longest n-gram")] = 5
    smoothing: Annotated[
        Literal["kneser_ney", "additive"],
        Meta(description="interpolated modified Kneser-Ney (Chen and Goodman, 1999), or counts with `added` on top"),
    ] = "kneser_ney"
    added: Annotated[
        float,
        Meta(gt=0, description="what additive smoothing adds to every count of the highest order; 1 is Laplace's"),
    ] = 1.0

    trained: ClassVar[bool] = False


LanguageModelSettings = RecurrentLanguageModel | TransformerLanguageModel | NGram
