"""Encoders: a padded source -> a vector for each position."""

from __future__ import annotations

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.dropout import Dropout
from seqkit.layers.embedding import Embedding
from seqkit.layers.recurrent import BidirectionalStack
from seqkit.layers.stack import LayerStack
from seqkit.models.transformer_parts import encoder_layers, last_norm, positions
from seqkit.settings import Recurrent, Transformer

__all__ = ["Encoder", "RecurrentEncoder", "TransformerEncoder"]


class Encoder(nn.Module):
    """A padded source, ids (B, S) -> a vector for each position, (B, S, D), meaningless at padding."""

    embedding: Embedding
    dropout: Dropout

    def forward(self, source: Padded) -> Tensor:
        """ids (B, S) -> (B, S, D)."""
        raise NotImplementedError


class RecurrentEncoder(Encoder):
    """A recurrent stack over the source, in one direction or both (Bahdanau et al., 2015)."""

    def __init__(self, settings: Recurrent, embedding: Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.dropout = Dropout(settings.dropout)
        self.stack = BidirectionalStack(
            kind=settings.cell,
            inputs=settings.embedding,
            width=settings.width,
            layers=settings.encoder_layers,
            bidirectional=settings.bidirectional,
            dropout=settings.dropout,
        )

    def forward(self, source: Padded) -> Tensor:
        """ids (B, S) -> (B, S, D)."""
        encoded: Tensor = self.stack(self.dropout(self.embedding(source.ids)), source.mask)
        return encoded


class TransformerEncoder(Encoder):
    """Self-attention over the source (Vaswani et al., 2017)."""

    def __init__(self, settings: Transformer, embedding: Embedding, *, recompute: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions = positions(settings)
        self.dropout = Dropout(settings.dropout)
        self.layers = LayerStack(
            encoder_layers(settings, settings.encoder_layers),
            layer_drop=settings.layer_drop,
            recompute=recompute,
        )
        self.norm = last_norm(settings)

    def forward(self, source: Padded) -> Tensor:
        """ids (B, S) -> (B, S, D)."""
        x = self.dropout(self.positions(self.embedding(source.ids)))
        encoded: Tensor = self.norm(self.layers.bidirectional(x, source.mask))
        return encoded
