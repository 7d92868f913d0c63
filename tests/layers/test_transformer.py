"""Transformer layers: the activations' formulas, and where the norm stands."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.transformer import Activation, DecoderLayer, EncoderLayer, FeedForward, Norm

WIDTH = 8


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention() -> MultiHeadAttention:
    return MultiHeadAttention(width=WIDTH, heads=2)


def feed_forward(activation: Activation = "relu") -> FeedForward:
    return FeedForward(width=WIDTH, inner=12, activation=activation)


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
def test_feed_forward_is_its_formula(activation: Activation) -> None:
    torch.manual_seed(0)
    module, x = feed_forward(activation), random(2, 3, WIDTH)
    inner = module.inner(x)
    match activation:
        case "relu":
            inner = inner.clamp(min=0)
        case "gelu":
            inner = inner * torch.special.ndtr(inner)
        case "swiglu":
            assert module.gate is not None
            inner = module.gate(x) * torch.sigmoid(module.gate(x)) * inner
    torch.testing.assert_close(module(x), module.outer(inner))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_an_encoder_layer_is_its_two_sub_layers(norm: Norm) -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(attention=attention(), feed_forward=feed_forward(), width=WIDTH, dropout=0.0, norm=norm).eval()
    x, mask = random(2, 5, WIDTH), torch.ones(2, 5, dtype=torch.bool)
    if norm == "pre":
        middle = x + layer.attention.bidirectional(F.layer_norm(x, (WIDTH,)), mask)
        expected = middle + layer.feed_forward(F.layer_norm(middle, (WIDTH,)))
    else:
        middle = F.layer_norm(x + layer.attention.bidirectional(x, mask), (WIDTH,))
        expected = F.layer_norm(middle + layer.feed_forward(middle), (WIDTH,))
    torch.testing.assert_close(layer(x, mask), expected)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_decoder_layer_reports_the_attention_that_it_uses(norm: Norm) -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(
        attention=attention(),
        cross_attention=attention(),
        feed_forward=feed_forward(),
        width=WIDTH,
        dropout=0.0,
        norm=norm,
    ).eval()
    source, x = random(2, 5, WIDTH, seed=2), random(2, 3, WIDTH)
    memory = layer.cross_attention.prepare(source, torch.tensor([[True] * 5, [True] * 2 + [False] * 3]))
    seen: list[Tensor] = []
    hook = layer.cross_attention.query.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    layer(x, memory, None)
    weights = layer.weights(x, memory, None)
    hook.remove()
    torch.testing.assert_close(seen[1], seen[0])  # the same queries
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3))
    assert (weights[1, :, 2:] == 0).all()


def test_every_residual_branch_is_dropped_out_in_training() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(attention=attention(), feed_forward=feed_forward(), width=WIDTH, dropout=0.9, norm="pre")
    x, mask = random(1, 200, WIDTH), torch.ones(1, 200, dtype=torch.bool)
    untouched = (layer.train()(x, mask) == x).float().mean()
    assert float(untouched) == pytest.approx(0.9**2, abs=0.05)
