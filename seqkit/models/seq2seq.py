"""The encoder-decoder: a source -> its encoding -> the target, token by token."""

from __future__ import annotations

from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, ModelError
from seqkit.layers.embedding import OutputLayer
from seqkit.models.autoregressive import Autoregressive, SelfAttentionStack
from seqkit.models.decoders import Decoder
from seqkit.models.encoders import Encoder
from seqkit.state import Features, Memory, State

__all__ = ["EncoderDecoder"]


class EncoderDecoder(Autoregressive):
    """Encodes a source once, then predicts the target token by token (Sutskever et al., 2014)."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        decoder: Decoder,
        output: OutputLayer,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output = output

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode the source: memory and a first state, one row a sentence."""
        if source is None:
            raise ModelError("a translation model needs a source", "give it text in its source language")
        return self.decoder.start(self.encode(source), source.mask)

    def encode(self, source: Padded) -> Tensor:
        """Encode a source (B, S) as vectors (B, S, D)."""
        encoded: Tensor = self.encoder(source)
        return encoded

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """The decoder, if it reads the tokens so far by self-attention alone."""
        return self.decoder.self_attention

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> the input of the output layer, (N, T, D), and the new state."""
        features: Features = self.decoder(tokens, memory, state)
        return features

    @property
    def attends(self) -> bool:
        """Whether the decoder attends to the source, so that there is an alignment."""
        return self.decoder.attends

    @property
    def attention_shape(self) -> tuple[int, int]:
        """The number of layers that attend to the source, and the number of heads of each."""
        return self.decoder.attention_layers, self.decoder.attention_heads

    def alignment(self, source: Padded, inputs: Tensor, *, layer: int | None = None, head: int | None = None) -> Tensor:
        """Attention of each target position to each source position, by one forced pass: inputs (B, T) -> (B, T, S).

        Layer and head are counted from 0; for their defaults see `TransformerDecoder.alignment`. Raises ModelError if
        the model has no attention, ConfigError if it has no such layer or head.
        """
        for name, chosen, count in zip(("layer", "head"), (layer, head), self.attention_shape, strict=True):
            if self.attends and chosen is not None and not 0 <= chosen < count:
                raise ConfigError(
                    f"the model's attention has no {name} {chosen + 1}",
                    f"choose 1 to {count}" if count > 1 else f"there is but one {name}: leave it out",
                )
        memory, state = self.start(source)
        return self.decoder.alignment(inputs, memory, state, layer=layer, head=head)
