"""Encoders: one vector for each source position, which knows what the settings let it know."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers.embedding import Embedding
from seqkit.models.encoders import Encoder, RecurrentEncoder, TransformerEncoder
from seqkit.settings import Recurrent, Transformer

VOCABULARY, WIDTH, LENGTH = 9, 8, 5
IDS = torch.tensor([[5, 3, 7, 4, 2]])

ENCODERS: dict[str, Recurrent | Transformer] = {
    "ahead": Recurrent(width=WIDTH, embedding=6, bidirectional=False, encoder_layers=2),
    "both-ways": Recurrent(width=WIDTH, embedding=6),
    "lstm": Recurrent(width=WIDTH, embedding=6, cell="lstm"),
    "transformer-pre": Transformer(width=WIDTH, heads=2, feed_forward=12, encoder_layers=2),
    "transformer-post": Transformer(width=WIDTH, heads=2, feed_forward=12, encoder_layers=1, norm="post"),
}
every_encoder = pytest.mark.parametrize("name", ENCODERS)


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(0)
    settings = ENCODERS[name]
    if isinstance(settings, Recurrent):
        return RecurrentEncoder(settings, Embedding(vocabulary=VOCABULARY, width=6)).double().eval()
    return TransformerEncoder(settings, Embedding(vocabulary=VOCABULARY, width=WIDTH)).double().eval()


def encoded(encoder: Encoder, ids: Tensor) -> Tensor:
    vectors: Tensor = encoder(Padded(ids, torch.ones_like(ids, dtype=torch.bool)))
    return vectors


@every_encoder
def test_there_is_a_vector_for_each_position(name: str) -> None:
    assert encoded(encoder_of(name), IDS.expand(3, -1)).shape == (3, LENGTH, WIDTH)


@every_encoder
def test_a_vector_knows_what_is_before_it_and_in_both_directions_what_comes_after(name: str) -> None:
    encoder = encoder_of(name)
    usual = encoded(encoder, IDS)
    for place in range(LENGTH):
        other = IDS.clone()
        other[0, place] = 6
        changed = (encoded(encoder, other) != usual).any(2)[0].tolist()
        assert changed == [name != "ahead" or position >= place for position in range(LENGTH)]


@every_encoder
def test_the_order_of_the_source_matters(name: str) -> None:
    encoder = encoder_of(name)
    turned = encoded(encoder, IDS.flip(1)).flip(1)
    assert not torch.allclose(turned, encoded(encoder, IDS))


def test_only_a_norm_before_the_sub_layers_is_followed_by_a_last_one() -> None:
    """With a norm behind each sub-layer the output is normalised already."""
    for name in ("transformer-pre", "transformer-post"):
        vectors = encoded(encoder_of(name), IDS)
        torch.testing.assert_close(vectors.mean(2), torch.zeros(1, LENGTH).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(vectors.var(2, correction=0), torch.ones(1, LENGTH).double(), atol=1e-3, rtol=0)
