"""CTranslate2 says what we say, for every kind of Transformer, greedily and with a beam; what differs is refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqkit.batch import pad
from seqkit.errors import ConfigError, ModelError
from seqkit.exchange import ct2
from seqkit.exchange.ct2 import export_ct2
from seqkit.exchange.parity import TOLERANCE, sentences_of
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import load
from seqkit.search.beam import beam
from seqkit.settings import Search
from seqkit.storage.manifest import check
from seqkit.text.vocabulary import BOS, EOS
from tests.support.exports import CHARACTERS, PIECES, WORDS, Make, Tree, tiny_model

LONGEST = 30

VARIANTS: list[tuple[Tree, Tree]] = [
    (WORDS, {"norm": "pre", "activation": "relu", "positions": "sinusoidal", "tied": "all"}),
    (WORDS, {"norm": "post", "activation": "gelu", "positions": "learned", "maximum_positions": 3, "tied": "output"}),
    (WORDS, {"norm": "post", "activation": "swiglu", "positions": "rotary", "tied": "none", "decoder_layers": 3}),
    (WORDS, {"norm": "pre", "activation": "swiglu", "positions": "sinusoidal", "heads": 1, "width": 13}),
    (CHARACTERS, {"norm": "pre", "activation": "relu", "positions": "rotary", "tied": "none"}),
    (PIECES, {"norm": "pre", "activation": "gelu", "positions": "sinusoidal", "tied": "output"}),
    ({**PIECES, "joint": False}, {"norm": "pre", "activation": "swiglu", "positions": "learned", "tied": "output"}),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("run"), text=WORDS, model={}, dev=True)


def names(variant: tuple[Tree, Tree]) -> str:
    return "-".join(str(value) for each in variant for value in each.values())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=map(names, VARIANTS))
def test_every_kind_of_transformer_says_the_same(variant: tuple[Tree, Tree], tiny: Make, tmp_path: Path) -> None:
    library = pytest.importorskip("ctranslate2")
    path = tiny(*variant, steps=100 if variant[0] is CHARACTERS else 50)  # long ones come to an end later
    exact, quantised = export_ct2(path, tmp_path / "out")
    assert (exact.equal, exact.sentences, quantised) == (20, 20, None)
    assert exact.difference < TOLERANCE / 50

    loaded = load(path)
    assert isinstance(loaded.model, EncoderDecoder)
    sources, codecs = sentences_of(loaded), loaded.codecs
    translator = library.Translator(str(tmp_path / "out"), compute_type="float32", intra_threads=1)
    # Without a reward for length the tool ends early, when the best is there and the second perhaps not.
    for reward, count in ((0.0, 1), (1.0, 2)):
        settings = Search(
            beam=4, nbest=count, length_reward=reward, patience=0.0, maximum_length=LONGEST, maximum_extra=LONGEST
        )
        ours = beam(loaded.model, pad([[*ids, EOS] for ids in sources]), settings)
        theirs = translator.translate_batch(
            [codecs.source.tokens(ids) for ids in sources],
            beam_size=4,
            num_hypotheses=count,
            length_penalty=reward,
            patience=LONGEST,
            max_decoding_length=LONGEST,
            min_decoding_length=0,
            return_scores=True,
        )
        ended = 0
        for own, other in zip(ours, theirs, strict=True):
            if any(not one.finished for one in own) or max(map(len, other.hypotheses)) == LONGEST:
                continue  # the tool ranks what was cut off with what came to an end
            ended += 1
            assert [codecs.target.tokens(one.ids) for one in own] == other.hypotheses
            assert [one.score for one in own] == pytest.approx(other.scores, abs=1e-4)
        assert ended >= 5


def test_a_model_that_says_nothing_is_still_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    path = tiny_model(tmp_path / "run", text=WORDS, model={}, steps=0, ending=20.0)
    assert export_ct2(path, tmp_path / "out").exact.equal == 20


def test_it_looks_where_we_say_that_it_looks(tiny: Make, tmp_path: Path) -> None:
    library = pytest.importorskip("ctranslate2")
    path = tiny(*VARIANTS[2])
    export_ct2(path, tmp_path / "out")
    loaded = load(path)
    assert isinstance(loaded.model, EncoderDecoder)
    sources, codecs = sentences_of(loaded), loaded.codecs
    translator = library.Translator(str(tmp_path / "out"), compute_type="float32", intra_threads=1)
    # Greedily: with a beam, the tool mixes up the sentences of a batch at the first step.
    found = translator.translate_batch(
        [codecs.source.tokens(ids) for ids in sources], beam_size=1, return_attention=True
    )
    for source, other in zip(sources, found, strict=True):
        ids = [codecs.target.vocabulary.id(token) for token in other.hypotheses[0]]
        with torch.no_grad():
            seen = loaded.model.alignment(pad([[*source, EOS]]), pad([[BOS, *ids[:-1]]]).ids)[0]
        assert np.array(other.attention[0]) == pytest.approx(seen[:, :-1].numpy(), abs=1e-4)  # `</s>` is left out


def test_a_quantised_model_is_smaller_and_its_agreement_is_told(run: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("ctranslate2")
    sizes = {}
    for name in ("float32", "int8"):
        exact, quantised = export_ct2(run, tmp_path / name, quantization=name)
        assert exact.difference < TOLERANCE
        assert (quantised is None) == (name == "float32")
        sizes[name] = (tmp_path / name / "model.bin").stat().st_size
    assert quantised is not None
    assert exact.difference < quantised.difference < 1
    assert quantised.equal >= 10
    assert sizes["int8"] < sizes["float32"]
    assert library.Translator(str(tmp_path / "int8"), intra_threads=1).compute_type.startswith("int8")
    assert check(tmp_path / "int8").facts == {"name": "toy", "step": 7}


def test_a_conversion_that_differs_is_refused_and_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ctranslate2")
    linear = ct2._linear

    def damaged(target: Any, maps: Sequence[Any]) -> None:
        linear(target, maps)
        if len(target.weight) == len(maps[0].weight) == 20:  # the first map of each feed-forward layer
            target.weight[3, 5] += 0.5

    monkeypatch.setattr(ct2, "_linear", damaged)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}")
    for folder in ("new", "old"):
        with pytest.raises(ModelError, match="not the same in CTranslate2"):
            export_ct2(run, tmp_path / folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["config.json"]


def test_words_that_look_like_special_tokens_are_refused(tmp_path: Path) -> None:
    """The tool is told words; a word `<unk>` of the text and the unknown word would be one to it."""
    path = tiny_model(
        tmp_path / "run", text={"kind": "words", "split": "spaces"}, model={}, more=["an <unk> word"], steps=0
    )
    with pytest.raises(ConfigError, match="a word <unk>"):
        export_ct2(path, tmp_path / "out")


def test_without_the_tool_the_way_to_install_it_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ConfigError) as caught:
        export_ct2(run, tmp_path / "out")
    assert caught.value.hint == "pip install '.[ct2]'"
    assert not list(tmp_path.iterdir())


def test_a_tool_that_is_too_old_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("ctranslate2")
    monkeypatch.setattr(library, "__version__", "4.6.2")
    with pytest.raises(ConfigError, match=r"ctranslate2 4\.6\.2 is too old"):
        export_ct2(run, tmp_path / "out")
