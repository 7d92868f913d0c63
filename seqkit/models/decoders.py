"""Decoders: an encoded source and the tokens so far -> the input of the output layer.

Each has `start`, which turns an encoded source into memory and a first state, `forward`, which reads tokens (N, T), and
`alignment`, the attention of each token to the source. A model decodes by the code that it is trained by, with one
exception: Transformers decode by `engine/fused_transformer.py`, which `tests/laws/test_fused_transformer.py` holds to
this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from seqkit.errors import ModelError
from seqkit.layers.attention import AttentionMemory, CrossMemory, KeyValues, SourceAttention, unfold
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding
from seqkit.layers.projection import Projection
from seqkit.layers.recurrent import RecurrentStack, StackState, last_real
from seqkit.layers.stack import LayerStack
from seqkit.layers.transformer import DecoderLayer
from seqkit.models.autoregressive import SelfAttentionStack
from seqkit.models.transformer_parts import decoder_layers, last_norm, positions
from seqkit.settings import Mixed, Plain, Recurrent, Transformer
from seqkit.state import Features, Memory, State

__all__ = ["Decoder", "PlainDecoder", "RecurrentDecoder", "RecurrentState", "TransformerDecoder"]


class Decoder(nn.Module):
    """The base of decoders; a subclass defines `start` and `forward`, and states whether it attends."""

    embedding: Embedding
    dropout: Dropout
    attends = False  # whether there is an alignment
    attention_layers = attention_heads = 0  # how many layers attend to the source, with how many heads each

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """This decoder, if it reads the tokens so far by self-attention alone."""
        return None

    def start(self, encoded: Tensor, mask: Tensor) -> tuple[Memory, State]:
        """encoded (B, S, D), mask (B, S) -> memory and a first state, one row a sentence."""
        raise NotImplementedError

    def alignment(
        self, tokens: Tensor, memory: Memory, state: State, *, layer: int | None = None, head: int | None = None
    ) -> Tensor:
        """The attention of each token to the source, of one layer and head, counted from 0: (N, T) -> (N, T, S)."""
        raise ModelError(
            "this model has no attention: its decoder sees only the encoder's final state",
            "train a recurrent, mixed or transformer model to see alignments",
        )


class RecurrentState(NamedTuple):
    """The state of a recurrent decoder after the tokens read so far."""

    stack: StackState
    feed: Tensor | None  # (N, E), the last attentional vector, with input feeding


class Bridge(nn.Module):
    """The map from a summary of the source to a decoder's first state (Bahdanau et al., 2015, appendix A.2.2)."""

    def __init__(self, *, source: int, width: int, layers: int, lstm: bool) -> None:
        super().__init__()
        self.shape = (layers, width)
        self.hidden = Projection(source, layers * width)
        self.cell = Projection(source, layers * width) if lstm else None

    def forward(self, summary: Tensor) -> StackState:
        """tanh(W s + b) for each layer: summary s (B, D) -> a state of B rows."""
        hidden = torch.tanh(self.hidden(summary)).view(-1, *self.shape)
        cell = None if self.cell is None else torch.tanh(self.cell(summary)).view(-1, *self.shape)
        return StackState(hidden, cell)


class PlainDecoder(Decoder):
    """A recurrent stack that reads the encoder's final state at every step (Cho et al., 2014; Sutskever et al., 2014).

    Memory: that state (B, D).
    """

    def __init__(self, settings: Plain, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.dropout = Dropout(settings.dropout)
        self.bridge = Bridge(
            source=settings.width, width=settings.width, layers=settings.layers, lstm=settings.cell == "lstm"
        )
        self.stack = RecurrentStack(
            kind=settings.cell,
            inputs=settings.embedding + settings.width,
            width=settings.width,
            layers=settings.layers,
            dropout=settings.dropout,
        )
        self.readout = Projection(2 * settings.width, settings.embedding)

    def start(self, encoded: Tensor, mask: Tensor) -> tuple[Tensor, RecurrentState]:
        """encoded (B, S, D), mask (B, S) -> memory (B, D) and a state of B rows."""
        context = last_real(encoded, mask)
        return context, RecurrentState(self.bridge(context), None)

    def forward(self, tokens: Tensor, memory: Tensor, state: RecurrentState) -> Features:
        """tokens (N, T) -> hidden (N, T, E) and the new state."""
        context = memory.repeat_interleave(len(tokens) // len(memory), dim=0)  # (N, D)
        context = context[:, None].expand(-1, tokens.shape[1], -1)
        x = torch.cat([self.dropout(self.embedding(tokens)), context], dim=-1)
        out, stack = self.stack(x, state.stack)
        hidden = torch.tanh(self.readout(torch.cat([out, context], dim=-1)))
        return Features(self.dropout(hidden), RecurrentState(stack, None))


class RecurrentDecoder(Decoder):
    """A recurrent stack whose outputs attend to the source (Luong et al., 2015, section 3.1).

    Without input feeding the stack reads all tokens in one fused call and attends afterwards; with it (section 3.3)
    each step reads the attentional vector of the one before, so training too goes token by token.
    Memory: AttentionMemory.
    """

    attends = True
    attention_layers = attention_heads = 1

    def __init__(self, settings: Recurrent | Mixed, embedding: Embedding, *, size: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.feeding = settings.input_feeding
        self.size = size
        self.dropout = Dropout(settings.dropout)
        self.bridge = Bridge(
            source=settings.width, width=settings.width, layers=settings.decoder_layers, lstm=settings.cell == "lstm"
        )
        self.stack = RecurrentStack(
            kind=settings.cell,
            inputs=2 * size if self.feeding else size,
            width=settings.width,
            layers=settings.decoder_layers,
            dropout=settings.dropout,
        )
        self.attention = SourceAttention(
            settings.attention, query=settings.width, source=settings.width, width=settings.width
        )
        self.readout = Projection(2 * settings.width, size)

    def start(self, encoded: Tensor, mask: Tensor) -> tuple[AttentionMemory, RecurrentState]:
        """encoded (B, S, D), mask (B, S) -> memory and a state of B rows, from the mean source vector."""
        weights = mask[:, :, None].to(encoded.dtype)
        mean = (encoded * weights).sum(1) / weights.sum(1)
        feed = encoded.new_zeros(len(encoded), self.size) if self.feeding else None
        return self.attention.prepare(encoded, mask), RecurrentState(self.bridge(mean), feed)

    def forward(self, tokens: Tensor, memory: AttentionMemory, state: RecurrentState) -> Features:
        """tokens (N, T) -> hidden (N, T, E) and the new state."""
        x = self.dropout(self.embedding(tokens))
        if state.feed is None:
            out, stack = self.stack(x, state.stack)
            attentional = self._attentional(out, memory)
            return Features(self.dropout(attentional), RecurrentState(stack, None))
        stack, feed, outputs = state.stack, state.feed, []
        for token in torch.split(x, 1, dim=1):
            out, stack = self.stack(torch.cat([token, feed[:, None]], dim=-1), stack)
            attentional = self._attentional(out, memory)
            feed = attentional[:, 0]
            outputs.append(attentional)
        return Features(self.dropout(torch.cat(outputs, dim=1)), RecurrentState(stack, feed))

    def alignment(
        self,
        tokens: Tensor,
        memory: AttentionMemory,
        state: RecurrentState,
        *,
        layer: int | None = None,
        head: int | None = None,
    ) -> Tensor:
        """The attention of each token to the source, by one layer with one head: (N, T) -> (N, T, S)."""
        weights = []
        # Step by step: the weights are computed between the stack and the attentional vector that it reads next.
        for token in torch.split(tokens, 1, dim=1):
            x = self.embedding(token)
            x = x if state.feed is None else torch.cat([x, state.feed[:, None]], dim=-1)
            out, stack = self.stack(x, state.stack)
            weights.append(unfold(self.attention.weights(out, memory), len(tokens)))
            state = RecurrentState(stack, None if state.feed is None else self._attentional(out, memory)[:, 0])
        return torch.cat(weights, dim=1)

    def _attentional(self, out: Tensor, memory: AttentionMemory) -> Tensor:
        """The attentional vector tanh(W [h; c]) of outputs h and contexts c (Luong et al., 2015, equation 5)."""
        return torch.tanh(self.readout(torch.cat([out, self.attention(out, memory)], dim=-1)))


class TransformerDecoder(Decoder):
    """Self-attention over the target and attention over the source (Vaswani et al., 2017).

    Memory: one CrossMemory a layer. State: one KeyValues a layer, or None before the first token.
    """

    attends = True

    def __init__(self, settings: Transformer, embedding: Embedding, *, recompute: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions(settings)
        self.dropout = Dropout(settings.dropout)
        self.layers = LayerStack(
            decoder_layers(settings, settings.decoder_layers), layer_drop=settings.layer_drop, recompute=recompute
        )
        self.attention_layers, self.attention_heads = settings.decoder_layers, settings.heads
        self.norm = last_norm(settings)

    def start(self, encoded: Tensor, mask: Tensor) -> tuple[tuple[CrossMemory, ...], None]:
        """encoded (B, S, D), mask (B, S) -> the source projected for each layer, and no state."""
        return tuple(layer.cross_attention.prepare(encoded, mask) for layer in self._decoder_layers), None

    def forward(self, tokens: Tensor, memory: tuple[CrossMemory, ...], state: tuple[KeyValues, ...] | None) -> Features:
        """tokens (N, T) -> hidden (N, T, D) and the new state."""
        x, state = self.layers.causal(self.embed(tokens, _length(state)), state, memory)
        return Features(self.norm(x), state)

    def alignment(
        self,
        tokens: Tensor,
        memory: tuple[CrossMemory, ...],
        state: tuple[KeyValues, ...] | None,
        *,
        layer: int | None = None,
        head: int | None = None,
    ) -> Tensor:
        """The attention of each token to the source, of one layer and head, counted from 0: (N, T) -> (N, T, S).

        By default the mean over the heads of the last layer but one, which comes closest to alignments made by people
        (Garg et al., 2019).
        """
        layers = self._decoder_layers
        chosen = max(0, len(layers) - 2) if layer is None else layer
        x = self.embed(tokens, _length(state))
        for index, module in enumerate(layers[:chosen]):
            x, _ = module(x, memory[index], None if state is None else state[index])
        cache = None if state is None else state[chosen]
        return layers[chosen].weights(x, memory[chosen], cache, head=head)

    @property
    def self_attention(self) -> SelfAttentionStack:
        """This decoder, which reads the tokens so far by self-attention alone."""
        return self

    @property
    def _decoder_layers(self) -> Sequence[DecoderLayer]:
        return cast(Sequence[DecoderLayer], self.layers)

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """The input of the first layer: tokens (N, T), the first of which is at position `start` -> (N, T, D)."""
        x: Tensor = self.dropout(self.positions(self.embedding(tokens), start))
        return x


def _length(state: tuple[KeyValues, ...] | None) -> int:
    return 0 if state is None else state[0].length
