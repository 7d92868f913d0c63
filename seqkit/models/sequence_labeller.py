"""Sequence labelling: an encoder that reads the whole sentence, and a classifier at every position."""

from __future__ import annotations

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import OutputLayer
from seqkit.models.encoders import Encoder
from seqkit.text.vocabulary import SPECIAL_TOKENS

__all__ = ["SequenceLabeller"]


class SequenceLabeller(nn.Module):
    """Predicts a label for each token from all tokens, independently of the other labels."""

    def __init__(self, *, encoder: Encoder, output: OutputLayer, dropout: float) -> None:
        """`dropout` is applied before the output layer."""
        super().__init__()
        self.encoder = encoder
        self.dropout = Dropout(dropout)
        self.output = output

    def features(self, source: Padded) -> Tensor:
        """The input of the output layer: source (B, S), each row ending in `</s>` -> (B, S, D)."""
        hidden: Tensor = self.dropout(self.encoder(source))
        return hidden

    def forward(self, source: Padded) -> Tensor:
        """source (B, S) -> logits (B, S, L), meaningless at `</s>` and at padding."""
        logits: Tensor = self.output(self.features(source))
        return logits

    def predict(self, source: Padded) -> Tensor:
        """The most probable label at each position, never a special token: source (B, S) -> ids (B, S)."""
        first = len(SPECIAL_TOKENS)
        ids: Tensor = self(source)[:, :, first:].argmax(dim=-1) + first
        return ids
