"""Settings become the module that they describe, a function of the seed; what cannot be built is said so."""

from __future__ import annotations

import msgspec
import pytest
import torch

from seqkit.batch import pad
from seqkit.errors import ConfigError, ModelError
from seqkit.models.build import Sizes, build, build_translation
from seqkit.models.decoders import PlainDecoder, RecurrentDecoder, TransformerDecoder
from seqkit.models.encoders import RecurrentEncoder, TransformerEncoder
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Mixed, Plain, Recurrent, Transformer, TranslationSettings
from seqkit.state import Decodable

SMALL: list[TranslationSettings] = [
    Transformer(width=8, heads=2, feed_forward=8, encoder_layers=1, decoder_layers=1),
    Recurrent(width=8, embedding=6),
    Plain(width=8, embedding=6),
    Mixed(width=8, heads=2, feed_forward=8, encoder_layers=1),
]
JOINT, APART = Sizes(9, 9, joint=True), Sizes(11, 9, joint=False)
every_kind = pytest.mark.parametrize("settings", SMALL, ids=lambda settings: type(settings).__name__)


def size_of(model: EncoderDecoder) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_each_kind_has_its_encoder_and_decoder() -> None:
    parts = [
        (type(model.encoder), type(model.decoder))
        for model in (build_translation(settings, JOINT) for settings in SMALL)
    ]
    assert parts == [
        (TransformerEncoder, TransformerDecoder),
        (RecurrentEncoder, RecurrentDecoder),
        (RecurrentEncoder, PlainDecoder),
        (TransformerEncoder, RecurrentDecoder),
    ]


@every_kind
def test_every_model_is_decodable(settings: TranslationSettings) -> None:
    assert isinstance(build(settings, JOINT), Decodable)


@every_kind
def test_the_seed_decides_the_weights(settings: TranslationSettings) -> None:
    def fresh(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build(settings, JOINT).parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


@every_kind
def test_tying_shares_what_it_says(settings: TranslationSettings) -> None:
    none, output, everything = (
        build_translation(msgspec.structs.replace(settings, tied=tied), JOINT) for tied in ("none", "output", "all")
    )
    assert none.output.weight is not none.decoder.embedding.weight is not none.encoder.embedding.weight
    assert output.output.weight is output.decoder.embedding.weight is not output.encoder.embedding.weight
    assert everything.output.weight is everything.decoder.embedding.weight is everything.encoder.embedding.weight
    size = none.output.weight.numel()
    assert (size_of(none), size_of(output)) == (size_of(everything) + 2 * size, size_of(everything) + size)


@every_kind
def test_one_matrix_for_two_vocabularies_is_refused(settings: TranslationSettings) -> None:
    with pytest.raises(ConfigError, match="one vocabulary") as caught:
        build_translation(msgspec.structs.replace(settings, tied="all"), APART)
    assert caught.value.hint is not None
    assert "text.joint" in caught.value.hint


@every_kind
def test_each_side_has_its_own_vocabulary(settings: TranslationSettings) -> None:
    model = build_translation(msgspec.structs.replace(settings, tied="output"), APART)
    assert len(model.encoder.embedding.weight) == 11
    memory, state = model.start(pad([[10, 2]]))
    assert model.advance(torch.tensor([[1, 8]]), memory, state).logits.shape == (1, 2, 9)


@every_kind
def test_a_model_without_a_source_says_what_is_missing(settings: TranslationSettings) -> None:
    with pytest.raises(ModelError, match="source"):
        build_translation(settings, JOINT).start(None)
