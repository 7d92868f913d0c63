"""Translation models: `[model]` for pairs, one Struct per architecture; and what all kinds of models share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from seqkit.settings.base import Settings
from seqkit.settings.data import Purpose

__all__ = [
    "PARALLEL_CELLS",
    "Activation",
    "Cell",
    "LayerDrop",
    "Mixed",
    "ModelSettings",
    "Norm",
    "Plain",
    "Positions",
    "Probability",
    "Recurrent",
    "Transformer",
    "TranslationSettings",
    "Width",
    "WordDropout",
]

Cell = Literal["rnn", "gru", "lstm", "mingru"]
PARALLEL_CELLS: frozenset[Cell] = frozenset({"mingru"})  # whose training reads all positions of a sequence at once
Probability = Annotated[float, Meta(ge=0, lt=1)]
Width = Annotated[int, Meta(ge=1, description="size of the hidden vectors")]
Activation = Annotated[Literal["relu", "gelu", "swiglu"], Meta(description="of the feed-forward layers")]
Norm = Annotated[Literal["pre", "post"], Meta(description="layer norm before or after each sub-layer")]
Positions = Annotated[Literal["sinusoidal", "learned", "rotary"], Meta(description="how a token's place is told")]
Tying = Annotated[
    Literal["none", "output", "all"],
    Meta(description="share the target embedding with the output layer, or (joint vocabulary) with the source too"),
]
WordDropout = Annotated[
    Probability, Meta(description="share of the tokens read in training whose vectors are dropped whole")
]
LayerDrop = Annotated[Probability, Meta(description="share of the self-attention layers that a training step skips")]
Attention = Annotated[
    Literal["additive", "dot", "bilinear"],
    Meta(description="Bahdanau's additive score, a scaled dot product, or Luong's bilinear form"),
]


class ModelSettings(Settings, frozen=True, kw_only=True):
    """What a kind of model can do, which others ask for instead of its name."""

    purpose: ClassVar[Purpose] = "translation"
    trained: ClassVar[bool] = True  # by gradients; False: counted in one pass
    recomputable: ClassVar[bool] = False  # has layers that the backward pass can call again
    compilable: ClassVar[bool] = False  # gains where torch compiles it

    @property
    def parallel_in_time(self) -> bool:
        """Whether training reads all positions of a sequence at once, not one after the other."""
        return False

    @property
    def carries_state(self) -> bool:
        """Whether a text's state goes on from one window of it to the next."""
        return False

    @property
    def reach(self) -> int | None:
        """The most positions that the model has, `</s>` included; None: there is no limit."""
        return None


class Plain(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="plain"):
    """Encoder-decoder without attention: the decoder sees only the encoder's final state, fed at every step
    (Cho et al., 2014)."""

    cell: Annotated[Cell, Meta(description="recurrent cell")] = "gru"
    width: Width = 256
    layers: Annotated[int, Meta(ge=1, description="recurrent layers on each side")] = 1
    embedding: Annotated[int, Meta(ge=1, description="size of token embeddings")] = 256
    tied: Tying = "output"
    dropout: Annotated[Probability, Meta(description="dropout on embeddings and between layers")] = 0.1
    word_dropout: WordDropout = 0.0

    @property
    def parallel_in_time(self) -> bool:
        """Some cells need no state to read their input."""
        return self.cell in PARALLEL_CELLS


class Recurrent(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="recurrent"):
    """Recurrent encoder-decoder with attention (Bahdanau et al., 2015; Luong et al., 2015)."""

    cell: Annotated[Cell, Meta(description="recurrent cell")] = "gru"
    width: Width = 256
    encoder_layers: Annotated[int, Meta(ge=1, description="encoder layers")] = 1
    decoder_layers: Annotated[int, Meta(ge=1, description="decoder layers")] = 1
    bidirectional: Annotated[bool, Meta(description="read the source in both directions")] = True
    embedding: Annotated[int, Meta(ge=1, description="size of token embeddings")] = 256
    attention: Attention = "additive"
    input_feeding: Annotated[
        bool, Meta(description="feed the last attention output to the next step (slower: training goes step by step)")
    ] = False
    tied: Tying = "all"
    dropout: Annotated[Probability, Meta(description="dropout on embeddings, between layers and before the output")] = (
        0.2
    )
    word_dropout: WordDropout = 0.0

    @property
    def parallel_in_time(self) -> bool:
        """Some cells need no state to read their input."""
        return self.cell in PARALLEL_CELLS and not self.input_feeding


class Transformer(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="transformer"):
    """Self-attention encoder and decoder (Vaswani et al., 2017)."""

    width: Width = 256
    encoder_layers: Annotated[int, Meta(ge=1, description="encoder layers")] = 4
    decoder_layers: Annotated[int, Meta(ge=1, description="decoder layers")] = 4
    heads: Annotated[int, Meta(ge=1, description="attention heads; must divide width")] = 4
    feed_forward: Annotated[int, Meta(ge=1, description="inner size of the feed-forward layers")] = 1024
    activation: Activation = "relu"
    norm: Norm = "pre"
    positions: Positions = "sinusoidal"
    maximum_positions: Annotated[int, Meta(ge=1, description="longest sequence with learned positions")] = 512
    tied: Tying = "all"
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


class Mixed(ModelSettings, frozen=True, kw_only=True, tag_field="kind", tag="mixed"):
    """Transformer encoder with a recurrent decoder (Chen et al., 2018)."""

    width: Width = 256
    encoder_layers: Annotated[int, Meta(ge=1, description="encoder layers")] = 4
    heads: Annotated[int, Meta(ge=1, description="attention heads of the encoder; must divide width")] = 4
    feed_forward: Annotated[int, Meta(ge=1, description="inner size of the feed-forward layers")] = 1024
    cell: Annotated[Cell, Meta(description="recurrent cell of the decoder")] = "lstm"
    decoder_layers: Annotated[int, Meta(ge=1, description="decoder layers")] = 1
    attention: Attention = "dot"
    input_feeding: Annotated[
        bool, Meta(description="feed the last attention output to the next step (slower: training goes step by step)")
    ] = False
    tied: Tying = "all"
    dropout: Annotated[Probability, Meta(description="dropout on embeddings, residual branches and between layers")] = (
        0.1
    )
    word_dropout: WordDropout = 0.0

    recomputable: ClassVar[bool] = True


TranslationSettings = Transformer | Recurrent | Plain | Mixed
