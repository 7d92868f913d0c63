"""An encoder and a decoder as one `Decodable`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, ModelError
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

    @property
    def places(self) -> tuple[int, int]:
        """How many layers attend to the source, and how many heads each has."""
        if isinstance(self.decoder, TransformerDecoder):
            return len(self.decoder.layers), self.decoder.layers[0].cross_attention.heads
        return (1, 1) if self.attends else (0, 0)

    def alignment(self, source: Padded, inputs: Tensor, *, layer: int | None = None, head: int | None = None) -> Tensor:
        """Attention of each target position to each source position, by one forced pass: inputs (B, T) -> (B, T, S).

        Layer and head are counted from 0; see `TransformerDecoder.alignment` for what is taken without. Raises
        ModelError if the model has no attention, ConfigError if it has no such layer or head.
        """
        for name, chosen, count in zip(("layer", "head"), (layer, head), self.places, strict=True):
            if self.attends and chosen is not None and not 0 <= chosen < count:
                raise ConfigError(
                    f"the model's attention has no {name} {chosen + 1}",
                    f"choose 1 to {count}" if count > 1 else f"there is but one {name}: leave it out",
                )
        if isinstance(self.decoder, PlainDecoder):  # what `attends` says
            raise ModelError(
                "this model has no attention: its decoder sees only the encoder's final state",
                "train a recurrent, mixed or transformer model to see alignments",
            )
        memory, state = self.start(source)
        if isinstance(self.decoder, TransformerDecoder):
            return self.decoder.alignment(inputs, memory, state, layer=layer, head=head)
        return self.decoder.alignment(inputs, memory, state)
