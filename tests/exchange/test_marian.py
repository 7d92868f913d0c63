"""MarianMTModel says what we say, greedily, with a beam and from text; what is not the same is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import Tensor

from seqkit.batch import pad
from seqkit.errors import ConfigError, ModelError
from seqkit.exchange import marian, marian_files
from seqkit.exchange.marian import export_marian
from seqkit.exchange.parity import TOLERANCE, sentences_of
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import load
from seqkit.search.beam import beam
from seqkit.settings import Search
from seqkit.text.vocabulary import EOS
from tests.support.exports import CHARACTERS, PIECES, WORDS, Make, Tree, tiny_model

ADVICE = "ignore:Recommended. pip install sacremoses:UserWarning"  # of the tokenizer, wherever it is loaded
LONGEST = 30

VARIANTS: list[tuple[Tree, Tree]] = [
    (WORDS, {"norm": "post", "activation": "relu", "tied": "all", "decoder_layers": 3}),
    (WORDS, {"norm": "post", "activation": "gelu", "tied": "output", "heads": 1, "width": 13}),
    (CHARACTERS, {"norm": "post", "activation": "relu", "tied": "none"}),
    (PIECES, {"norm": "post", "activation": "gelu", "tied": "output"}),
    ({**PIECES, "joint": False}, {"norm": "post", "activation": "relu", "tied": "none"}),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("run"), text=WORDS, model={"norm": "post"}, dev=True)


def names(variant: tuple[Tree, Tree]) -> str:
    return "-".join(str(value) for each in variant for value in each.values())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=map(names, VARIANTS))
def test_every_model_that_fits_says_the_same(variant: tuple[Tree, Tree], tiny: Make, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    path = tiny(*variant)
    found = export_marian(path, tmp_path / "out")
    assert (found.equal, found.sentences) == (20, 20)
    assert found.difference < TOLERANCE / 50

    loaded = load(path)
    assert isinstance(loaded.model, EncoderDecoder)
    read = pad([[*ids, EOS] for ids in sentences_of(loaded)])
    model = library.MarianMTModel.from_pretrained(tmp_path / "out", local_files_only=True)
    settings = Search(beam=4, length_reward=0.7, maximum_length=LONGEST, maximum_extra=LONGEST)
    ours = beam(loaded.model, read, settings)
    theirs = model.generate(
        input_ids=read.ids,
        attention_mask=read.mask.long(),
        length_penalty=0.7,
        max_length=LONGEST + 1,
        output_scores=True,
        return_dict_in_generate=True,
    )
    ended = 0
    for [own], row, score in zip(ours, theirs.sequences.tolist(), theirs.sequences_scores.tolist(), strict=True):
        if own.finished and EOS in row:
            ended += 1
            assert [1, *own.ids, EOS] == row[: len(own.ids) + 2]
            assert own.score == pytest.approx(score, abs=1e-4)
    assert ended >= 3


def test_nothing_is_printed(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    export_marian(run, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["model.shared.weight", "final_logits_bias", "fc2.weight"])
def test_a_conversion_that_differs_is_refused_and_leaves_nothing(
    name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    weights = marian_files.weights

    def damaged(model: EncoderDecoder) -> dict[str, Tensor]:
        found = weights(model)
        return {key: tensor.roll(1, -1) if key.endswith(name) else tensor for key, tensor in found.items()}

    monkeypatch.setattr(marian, "weights", damaged)
    with pytest.raises(ModelError, match="not the same in Marian"):
        export_marian(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_weight_that_is_missing_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    weights = marian_files.weights
    monkeypatch.setattr(marian, "weights", lambda model: dict(list(weights(model).items())[:-1]))
    with pytest.raises(ModelError, match=r"other weights.*encoder_attn_layer_norm.bias"):
        export_marian(run, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "setting", "remedy"),
    [
        ({"norm": "pre"}, 'model.norm = "pre"', 'model.norm="post"'),
        ({"norm": "post", "positions": "rotary"}, 'model.positions = "rotary"', 'model.positions="sinusoidal"'),
        ({"norm": "post", "positions": "learned"}, 'model.positions = "learned"', 'model.positions="sinusoidal"'),
        (
            {"norm": "post", "activation": "swiglu"},
            'model.activation = "swiglu"',
            'model.activation="relu" or model.activation="gelu"',
        ),
        (
            {"kind": "recurrent", "width": 4, "embedding": 4},
            'model.kind = "recurrent"',
            'model.kind="transformer"',
        ),
    ],
    ids=["pre", "rotary", "learned", "swiglu", "recurrent"],
)
def test_what_does_not_fit_is_refused_by_name(model: Tree, setting: str, remedy: str, tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "run", text=WORDS, model=model, steps=0)
    with pytest.raises(ConfigError) as caught:
        export_marian(path, tmp_path / "out")
    assert caught.value.what == f"{setting} does not fit Marian"
    assert caught.value.hint is not None
    assert remedy in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_without_the_tool_the_way_to_install_it_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError) as caught:
        export_marian(run, tmp_path / "out")
    assert caught.value.hint == "pip install '.[marian]'"
    assert not list(tmp_path.iterdir())
