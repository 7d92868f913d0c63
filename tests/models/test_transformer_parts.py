"""A Transformer's parts are what its settings say."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.positions import LearnedPositions, SinusoidalPositions
from seqkit.layers.transformer import DecoderLayer
from seqkit.models.build import Sizes, build_translation
from seqkit.models.transformer_parts import NoPositions, decoder_layers, encoder_layers, last_norm, positions
from seqkit.settings import Transformer

JOINT = Sizes(9, 9, joint=True)


def test_settings_reach_the_layers() -> None:
    settings = Transformer(
        width=8, heads=4, feed_forward=24, encoder_layers=3, decoder_layers=2, attention_dropout=0.25, dropout=0.5
    )
    model = build_translation(settings, JOINT)
    attentions = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    assert len(attentions) == 3 + 2 * 2
    assert {(module.heads, module.rate, module.rotary) for module in attentions} == {(4, 0.25, False)}
    assert model.encoder.dropout.rate == model.decoder.dropout.rate == 0.5


def test_attention_to_the_source_is_never_rotary() -> None:
    """The distance between a source and a target place means nothing."""
    model = build_translation(
        Transformer(width=8, heads=2, feed_forward=8, decoder_layers=2, positions="rotary"), JOINT
    )
    layers = [module for module in model.modules() if isinstance(module, DecoderLayer)]
    assert len(layers) == 2
    assert all(layer.attention.rotary and not layer.cross_attention.rotary for layer in layers)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_last_norm_is_needed_only_where_sub_layers_begin_with_theirs(norm: Literal["pre", "post"]) -> None:
    assert isinstance(last_norm(Transformer(width=8, norm=norm)), nn.LayerNorm) == (norm == "pre")


def test_layers_are_as_many_as_asked_for_and_each_its_own() -> None:
    settings = Transformer(width=8, heads=2, feed_forward=8)
    for layers in (list(encoder_layers(settings, 3)), list(decoder_layers(settings, 3))):
        assert len({id(parameter) for layer in layers for parameter in layer.parameters()}) == sum(
            len(list(layer.parameters())) for layer in layers
        )
        assert len(layers) == 3


@pytest.mark.parametrize(
    ("kind", "module"),
    [("sinusoidal", SinusoidalPositions), ("learned", LearnedPositions), ("rotary", NoPositions)],
)
def test_positions_are_of_the_kind_that_is_set(
    kind: Literal["sinusoidal", "learned", "rotary"], module: type[nn.Module]
) -> None:
    added = positions(Transformer(width=8, heads=2, positions=kind, maximum_positions=20))
    assert type(added) is module
    x = torch.randn(2, 3, 8)
    assert torch.equal(added(x, 4), x) == (kind == "rotary")
