"""Alignments: probabilities over real source positions, the ones that the model goes by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.errors import ConfigError
from seqkit.models.build import Sizes, build_translation
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Mixed, Recurrent, Transformer, TranslationSettings

ATTENTIVE: dict[str, TranslationSettings] = {
    "transformer": Transformer(width=8, heads=2, feed_forward=8, encoder_layers=1, decoder_layers=2),
    "transformer-one-layer": Transformer(width=8, heads=2, feed_forward=8, encoder_layers=1, decoder_layers=1),
    "recurrent": Recurrent(width=8, embedding=6, decoder_layers=2),
    "recurrent-feeding": Recurrent(width=8, embedding=6, input_feeding=True, attention="dot"),
    "mixed": Mixed(width=8, heads=2, feed_forward=8, encoder_layers=1),
}
every_attentive_model = pytest.mark.parametrize("settings", ATTENTIVE.values(), ids=ATTENTIVE)


def made(settings: TranslationSettings) -> EncoderDecoder:
    torch.manual_seed(0)
    return build_translation(settings, Sizes(9, 9, joint=True)).double().eval()


def given() -> tuple[Padded, Tensor]:
    return pad([[5, 3, 7, 4, 2], [8, 2]]), torch.tensor([[1, 4, 6], [1, 3, 3]])


@every_attentive_model
def test_alignments_are_probabilities_over_the_real_source(settings: TranslationSettings) -> None:
    source, inputs = given()
    weights = made(settings).alignment(source, inputs)
    assert weights.shape == (2, 3, 5)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 3, dtype=torch.float64))
    assert bool((weights >= 0).all())
    assert not weights[1, :, 2:].any()


@every_attentive_model
def test_alignments_look_at_no_later_token(settings: TranslationSettings) -> None:
    source, inputs = given()
    model, other = made(settings), inputs.clone()
    other[:, 2] = 7
    torch.testing.assert_close(
        model.alignment(source, other)[:, :2], model.alignment(source, inputs)[:, :2], rtol=0, atol=0
    )


@every_attentive_model
def test_layers_and_heads_are_looked_at_one_by_one(settings: TranslationSettings) -> None:
    source, inputs = given()
    model = made(settings)
    layers, heads = model.attention_shape
    seen = [model.alignment(source, inputs, layer=layer, head=head) for layer in range(layers) for head in range(heads)]
    assert len({tuple(weights.flatten().tolist()) for weights in seen}) == layers * heads
    for layer in range(layers):
        mean = torch.stack(seen[layer * heads : (layer + 1) * heads]).mean(0)
        torch.testing.assert_close(model.alignment(source, inputs, layer=layer), mean)
    usual = model.alignment(source, inputs, layer=max(0, layers - 2))
    assert torch.equal(model.alignment(source, inputs), usual)
    for wrong in ({"layer": layers}, {"head": heads}, {"layer": -1}):
        with pytest.raises(ConfigError, match="the model's attention has no"):
            model.alignment(source, inputs, **wrong)


@every_attentive_model
def test_alignment_is_for_looking_and_changes_nothing(settings: TranslationSettings) -> None:
    source, inputs = given()
    model = made(settings)
    memory, state = model.start(source)
    before = model.advance(inputs, memory, state).logits
    model.alignment(source, inputs)
    assert torch.equal(model.advance(inputs, *model.start(source)).logits, before)
