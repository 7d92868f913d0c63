"""An encoder and a decoder as one `Decodable`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ModelError
from seqkit.layers.embedding import OutputLayer
from seqkit.models.autoregressive import Autoregressive
from seqkit.models.decoders import PlainDecoder, RecurrentDecoder, TransformerDecoder
from seqkit.models.encoders import RecurrentEncoder, TransformerEncoder
from seqkit.state import Features, Memory, State

__all__ = ["EncoderDecoder"]


class EncoderDecoder(Autoregressive):
    """Reads a source once, then predicts the target token by token."""

    def __init__(
        self,
        *,
        encoder: RecurrentEncoder | TransformerEncoder,
        decoder: PlainDecoder | RecurrentDecoder | TransformerDecoder,
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
        decoder: Any = self.decoder  # each decoder has its own types of memory and state, opaque to everybody else
        memory, state = decoder.start(self.encoder(source), source.mask)
        return memory, state

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> what the output layer reads, (N, T, D), and the new state."""
        features: Features = self.decoder(tokens, memory, state)
        return features

    @property
    def attends(self) -> bool:
        """Whether there is an alignment to be seen."""
        return not isinstance(self.decoder, PlainDecoder)

    def alignment(self, source: Padded, inputs: Tensor) -> Tensor:
        """Attention of each target position to each source position, by one forced pass: inputs (B, T) -> (B, T, S)."""
        if isinstance(self.decoder, PlainDecoder):  # what `attends` says
            raise ModelError(
                "this model has no attention: its decoder sees only the encoder's final state",
                "train a recurrent, mixed or transformer model to see alignments",
            )
        weights: Tensor = self.decoder.alignment(inputs, *self.start(source))
        return weights
