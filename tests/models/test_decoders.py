"""Decoders: what each knows of the source, and where it says that it looked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.errors import ModelError
from seqkit.models.decoders import PlainDecoder, RecurrentDecoder, TransformerDecoder
from seqkit.models.seq2seq import EncoderDecoder
from tests.support.models import MODELS, close, make, sources, tokens

RECURRENT = ("gru-bilinear", "gru-additive-feeding", "mixed-lstm")
LENGTHS = (5, 2)


def model_of(name: str) -> EncoderDecoder:
    model = make(MODELS[name])
    assert isinstance(model, EncoderDecoder)
    return model


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_decoder_reports_the_weights_that_it_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the reported weights forced on the decoder, its predictions would stay the same."""
    source, inputs = sources(*LENGTHS), tokens(2, 3)
    model = model_of(name)
    assert isinstance(model.decoder, RecurrentDecoder)
    memory, state = model.start(source)
    expected = model.advance(inputs, memory, state).logits
    columns = list(model.alignment(source, inputs).unbind(1))

    def forced(queries: Tensor, memory: object) -> Tensor:
        return torch.stack([columns.pop(0) for _ in range(queries.shape[1])], dim=1)

    monkeypatch.setattr(model.decoder.attention, "weights", forced)
    torch.testing.assert_close(model.advance(inputs, memory, state).logits, expected)
    assert not columns


def test_a_plain_decoder_has_no_attention_and_says_so() -> None:
    model = model_of("plain-gru")
    assert isinstance(model.decoder, PlainDecoder)
    assert not model.decoder.attends
    assert (model.decoder.attention_layers, model.decoder.attention_heads) == (0, 0)
    with pytest.raises(ModelError, match="no attention"):
        model.alignment(sources(*LENGTHS), tokens(2, 3))


@pytest.mark.parametrize(("name", "layers", "heads"), [("transformer-pre", 2, 2), ("gru-bilinear", 1, 1)])
def test_what_attends_says_by_how_many_layers_and_heads(name: str, layers: int, heads: int) -> None:
    decoder = model_of(name).decoder
    assert decoder.attends
    assert (decoder.attention_layers, decoder.attention_heads) == (layers, heads)


def test_a_plain_decoder_knows_the_source_by_one_vector_and_reads_it_at_every_step() -> None:
    """Another vector at a later step changes that step's prediction, though the state is the same."""
    model, ids = model_of("plain-lstm"), tokens(2, 2)
    memory, state = model.start(sources(*LENGTHS))
    assert memory.shape == (2, 6)
    _, state = model.advance(ids[:, :1], memory, state)
    usual, other = (model.advance(ids[:, 1:], vector, state).logits for vector in (memory, memory + 1))
    assert not torch.equal(usual, other)


@pytest.mark.parametrize(("name", "fed"), [("gru-additive-feeding", True), ("gru-bilinear", False)])
def test_with_input_feeding_a_step_reads_the_attention_output_of_the_one_before(name: str, fed: bool) -> None:
    model, ids = model_of(name), tokens(2, 1)
    memory, state = model.start(sources(*LENGTHS))
    assert (state.feed is not None) == fed
    if fed:
        assert not state.feed.any()  # nothing was attended to before the first step
        usual, other = (
            model.advance(ids, memory, state._replace(feed=feed)).logits for feed in (state.feed, state.feed + 1)
        )
        assert not torch.equal(usual, other)


def test_only_self_attention_alone_is_offered_to_the_fused_decoder() -> None:
    parts = {name: model_of(name).decoder.self_attention for name in ("transformer-pre", "mixed-lstm", "plain-gru")}
    assert isinstance(parts["transformer-pre"], TransformerDecoder)
    assert parts["mixed-lstm"] is parts["plain-gru"] is None


def test_a_transformer_reports_the_layer_but_one_from_the_last_unless_told_otherwise() -> None:
    model, source, inputs = model_of("transformer-pre"), sources(*LENGTHS), tokens(2, 3)
    close(model.alignment(source, inputs), model.alignment(source, inputs, layer=0))
    assert not torch.equal(model.alignment(source, inputs), model.alignment(source, inputs, layer=1))
