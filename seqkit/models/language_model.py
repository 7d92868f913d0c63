"""Language models: the tokens so far -> the next token, as a `Decodable` without a source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.errors import ModelError
from seqkit.layers.attention import KeyValues
from seqkit.layers.dropout import Dropout, LockedDropout
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.layers.projection import Projection
from seqkit.layers.recurrent import RecurrentStack, StackState
from seqkit.layers.stack import LayerStack
from seqkit.models.autoregressive import Autoregressive, SelfAttentionStack
from seqkit.models.transformer_parts import encoder_layers, last_norm, positions
from seqkit.settings import RecurrentLanguageModel, TransformerLanguageModel
from seqkit.state import Features, Memory, State

__all__ = ["LanguageModel", "RecurrentReader", "TokenReader", "TransformerReader"]


class TokenReader(nn.Module):
    """The tokens so far -> the input of the output layer; a subclass defines its state."""

    embedding: Embedding

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """This reader, if it is made of self-attention alone."""
        return None

    def forward(self, tokens: Tensor, state: State) -> Features:
        """tokens (N, T) -> hidden (N, T, E) and the new state."""
        raise NotImplementedError


class RecurrentReader(TokenReader):
    """A recurrent stack over the tokens so far, with the regularisers of AWD-LSTM (Merity et al., 2018).

    State: StackState.
    """

    def __init__(self, settings: RecurrentLanguageModel, embedding: Embedding) -> None:
        super().__init__()
        kind = LockedDropout if settings.locked else Dropout
        self.embedding = embedding
        self.input_dropout = kind(settings.input_dropout)
        self.dropout = kind(settings.dropout)
        self.stack = RecurrentStack(
            kind=settings.cell,
            inputs=settings.embedding,
            width=settings.width,
            layers=settings.layers,
            dropout=settings.hidden_dropout,
            locked=settings.locked,
            weight_drop=settings.weight_drop,
        )
        size = settings.embedding if settings.tied == "output" else settings.width
        self.readout = Projection(settings.width, size) if size != settings.width else nn.Identity()
        self.activation_penalty = settings.activation_penalty
        self.slowness_penalty = settings.slowness_penalty

    def forward(self, tokens: Tensor, state: StackState | None) -> Features:
        """tokens (N, T) -> hidden (N, T, E) and the new state."""
        x = self.input_dropout(self.embedding(tokens))
        out, state = self.stack(x, state)
        hidden = self.dropout(self.readout(out))
        return Features(hidden, state, self._penalty(out, hidden) if self.training else None)

    def _penalty(self, out: Tensor, hidden: Tensor) -> Tensor | None:
        """Activation regularisation of `hidden` and temporal regularisation of `out`, (N, T, D) each (Merity et al.,
        2017): (N, T)."""
        if not (self.activation_penalty or self.slowness_penalty):
            return None
        wide = torch.promote_types(out.dtype, torch.float32)
        size = hidden.to(wide).square().mean(-1)
        change = F.pad(out.to(wide).diff(dim=1).square().mean(-1), (1, 0))  # the first token has none
        return self.activation_penalty * size + self.slowness_penalty * change


class TransformerReader(TokenReader):
    """Self-attention over the tokens so far (Radford et al., 2018). State: one KeyValues a layer, or None."""

    def __init__(self, settings: TransformerLanguageModel, embedding: Embedding, *, recompute: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions(settings)
        self.dropout = Dropout(settings.dropout)
        self.layers = LayerStack(
            encoder_layers(settings, settings.layers), layer_drop=settings.layer_drop, recompute=recompute
        )
        self.norm = last_norm(settings)

    def forward(self, tokens: Tensor, state: tuple[KeyValues, ...] | None) -> Features:
        """tokens (N, T) -> hidden (N, T, D) and the new state."""
        x = self.embed(tokens, 0 if state is None else state[0].length)
        x, state = self.layers.causal(x, state)
        return Features(self.norm(x), state)

    @property
    def self_attention(self) -> SelfAttentionStack:
        """This reader, which is made of self-attention alone."""
        return self

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """The input of the first layer: tokens (N, T), the first of which is at position `start` -> (N, T, D)."""
        x: Tensor = self.dropout(self.positions(self.embedding(tokens), start))
        return x


class LanguageModel(Autoregressive):
    """Predicts each token of a text from those before it."""

    def __init__(self, *, reader: TokenReader, output: OutputLayer) -> None:
        super().__init__()
        self.reader = reader
        self.output = output

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """No memory, and the state before the first token."""
        if source is not None:
            raise ModelError("a language model has no source", "give it text to go on from, or to score")
        return None, None

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> the input of the output layer, (N, T, D), and the new state."""
        features: Features = self.reader(tokens, state)
        return features

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """The reader, if it is made of self-attention alone."""
        return self.reader.self_attention
