"""Sequence labelling: an encoder that reads the whole sentence, and a classifier at every position."""

from __future__ import annotations

from typing import assert_never

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding, OutputLayer
from seqkit.models.encoders import Encoder, RecurrentEncoder, TransformerEncoder
from seqkit.settings import LabellerSettings, Recurrent, RecurrentLabeller, Transformer, TransformerLabeller
from seqkit.text.vocabulary import SPECIAL_TOKENS

__all__ = ["SequenceLabeller", "build_labeller"]


class SequenceLabeller(nn.Module):
    """One label for each token, chosen apart from its neighbours' labels but in sight of all tokens."""

    def __init__(self, *, encoder: Encoder, output: OutputLayer, dropout: float) -> None:
        """`dropout` is that before the output layer."""
        super().__init__()
        self.encoder = encoder
        self.dropout = Dropout(dropout)
        self.output = output

    def features(self, source: Padded) -> Tensor:
        """What the output layer reads: source (B, S), each row ending in `</s>` -> (B, S, D)."""
        hidden: Tensor = self.dropout(self.encoder(source))
        return hidden

    def forward(self, source: Padded) -> Tensor:
        """source (B, S) -> logits (B, S, L); what stands at `</s>` and at padding means nothing."""
        logits: Tensor = self.output(self.features(source))
        return logits

    def predict(self, source: Padded) -> Tensor:
        """The most probable label at each position, never a special token: source (B, S) -> ids (B, S)."""
        first = len(SPECIAL_TOKENS)
        ids: Tensor = self(source)[:, :, first:].argmax(dim=-1) + first
        return ids


def build_labeller(
    settings: LabellerSettings, *, tokens: int, labels: int, recompute: bool = False
) -> SequenceLabeller:
    """A model with fresh weights for vocabularies of these sizes, special tokens included."""
    encoder: Encoder
    match settings:
        case RecurrentLabeller():
            encoder = RecurrentEncoder(_recurrent(settings), Embedding(vocabulary=tokens, width=settings.embedding))
            dropout = settings.dropout
        case TransformerLabeller():
            embedding = Embedding(vocabulary=tokens, width=settings.width)
            encoder = TransformerEncoder(_transformer(settings), embedding, recompute=recompute)
            dropout = 0.0  # the last residual branch has its own
        case _:
            assert_never(settings)
    output = OutputLayer(vocabulary=labels, width=settings.width)
    return SequenceLabeller(encoder=encoder, output=output, dropout=dropout)


def _recurrent(settings: RecurrentLabeller) -> Recurrent:
    return Recurrent(
        cell=settings.cell,
        width=settings.width,
        encoder_layers=settings.layers,
        bidirectional=settings.bidirectional,
        embedding=settings.embedding,
        dropout=settings.dropout,
    )


def _transformer(settings: TransformerLabeller) -> Transformer:
    return Transformer(
        width=settings.width,
        encoder_layers=settings.layers,
        heads=settings.heads,
        feed_forward=settings.feed_forward,
        activation=settings.activation,
        norm=settings.norm,
        positions=settings.positions,
        maximum_positions=settings.maximum_positions,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
    )
