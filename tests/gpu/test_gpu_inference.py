"""What a trained model says on a GPU is what it says on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from seqkit.config import build
from seqkit.engine.fused_transformer import fused
from seqkit.errors import ConfigError
from seqkit.inference.evaluation import ScoringOptions, score_files
from seqkit.inference.labeller import Labeller
from seqkit.inference.translator import Translator
from seqkit.inference.writer import Writer
from seqkit.runs.session import train
from seqkit.search.beam import beam
from seqkit.settings import Model, Search
from seqkit.system.device import device_of
from tests.support.gpu import recipe_of, words
from tests.support.models import every_decodable, make, sources

DEVICES = ("cpu", "cuda")


@pytest.fixture(scope="module", params=["transformer", "recurrent"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that reverses, trained on the GPU."""
    recurrent = {"kind": "recurrent", "width": 64, "embedding": 64, "dropout": 0.0}
    folder = tmp_path_factory.mktemp("reverse")
    model = recurrent if request.param == "recurrent" else None
    train(recipe_of(folder, model=model, steps=600, validate_every=600), out=folder / "run", device="cuda")
    return folder / "run"


def translations(run: Path, device: str, lines: list[str], **search: Any) -> list[tuple[str, float]]:
    translator = Translator.load(run, device=device)
    wanted = msgspec.structs.replace(translator.recipe.search, **search)
    return [(found.text, found.log_prob) for found in translator.translate(lines, search=wanted)]


@pytest.mark.parametrize("width", [1, 4])
def test_translations_in_float32_are_those_of_the_cpu(run: Path, width: int) -> None:
    lines = ["", *words(1000, seed=3)]
    expected, found = (translations(run, device, lines, beam=width) for device in DEVICES)
    differing = [pair for pair in zip(expected, found, strict=True) if pair[0][0] != pair[1][0]]
    assert [pair for pair in differing if abs(pair[0][1] - pair[1][1]) > 1e-5] == []  # others are ties
    assert len(differing) <= 1
    same = [pair for pair in zip(expected, found, strict=True) if pair[0][0] == pair[1][0]]
    assert max(abs(one[1] - other[1]) for one, other in same) < 1e-3


def test_translations_do_not_depend_on_the_batch(run: Path) -> None:
    lines = words(64, seed=4)
    expected = translations(run, "cuda", lines)
    for budget in (1, 100, 700):
        found = translations(run, "cuda", lines[::-1], batch_tokens=budget)[::-1]
        assert [text for text, _ in found] == [text for text, _ in expected]
        assert max(abs(one[1] - other[1]) for one, other in zip(expected, found, strict=True)) < 1e-3


def test_translations_in_bfloat16_are_nearly_those_in_float32(run: Path) -> None:
    lines = words(2000, seed=5)
    exact, narrow = (translations(run, "cuda", lines, precision=precision) for precision in ("float32", "bf16"))
    same = sum(one[0] == other[0] for one, other in zip(exact, narrow, strict=True))
    assert same >= 0.99 * len(lines)


def test_scores_are_those_of_the_cpu(run: Path) -> None:
    lines = words(100, seed=6)
    found = [
        [each.log_prob for each in Translator.load(run, device=device).score(lines, lines[::-1])] for device in DEVICES
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-3)


def test_a_translation_is_explained(run: Path) -> None:
    [line] = words(1, seed=7)
    found = [list(Translator.load(run, device=device).translate([line], nbest=2, explain=True)) for device in DEVICES]
    assert found[0][0].text == found[1][0].text
    assert [link[:2] for link in found[0][0].alignment] == [link[:2] for link in found[1][0].alignment]


@every_decodable
def test_a_beam_finds_what_it_finds_on_the_cpu(settings: Model) -> None:
    model, source = make(settings), sources(5, 2, 4)
    search = Search(beam=3, nbest=3, maximum_length=7, no_repeat=3, repetition_penalty=1.1)
    expected = beam(fused(model), source, search)
    found = beam(fused(model.to("cuda")), source.to("cuda"), search)
    assert [[each.ids for each in row] for row in found] == [[each.ids for each in row] for row in expected]


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "recurrent_language_model", "width": 48, "embedding": 32},
        {"kind": "transformer_language_model", "width": 32, "heads": 2, "feed_forward": 64, "layers": 2},
        {"kind": "ngram", "order": 3},
    ],
    ids=lambda model: str(model["kind"]),
)
def test_a_language_model_scores_and_writes_alike(model: dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "train.txt"
    text.write_text("the cat sat on the mat.\nthe dog ran to the cat.\na bird sang.\n" * 40, encoding="utf-8")
    tree = {
        "name": "writer",
        "data": {"kind": "stream", "train": [str(text)], "window": 24},
        "text": {"kind": "characters"},
        "model": model,
        "train": {"steps": 60, "batch_tokens": 512, "learning_rate": 1e-2},
    }
    train(build(tree, where="the test"), out=tmp_path / "run", device="cuda")
    ways = [ScoringOptions(), ScoringOptions(context=("lines", None, None))]
    if model["kind"] != "ngram":
        ways += [ScoringOptions(dynamic=0.01), ScoringOptions(cache=20, weights="0.9,0.1")]
    for way in ways:
        found = [score_files([tmp_path / "run"], [str(text)], way, device=device) for device in DEVICES]
        assert found[1].figures.nll == pytest.approx(found[0].figures.nll, rel=1e-4)
    writers = [Writer.load(tmp_path / "run", device=device) for device in DEVICES]
    search = Search(maximum_length=40, temperature=0.8, nucleus=0.9, seed=3)
    texts = [[each.text for each in writer.generate(["the ", "a"] * 4, search=search)] for writer in writers]
    assert texts[0] == texts[1]
    likeliest = [writer.search("the ", search=Search(beam=3, maximum_length=20))[0].text for writer in writers]
    assert likeliest[0] == likeliest[1]


@pytest.mark.parametrize("kind", ["recurrent_labeller", "transformer_labeller"])
def test_labels_are_those_of_the_cpu(kind: str, tmp_path: Path) -> None:
    rows = [row.split() for row in words(300, seed=8)]
    lines = "".join("".join(f"{token}\t{token.upper()}\n" for token in row) + "\n" for row in rows)
    (tmp_path / "train.tsv").write_text(lines, encoding="utf-8")
    tree = {
        "name": "labels",
        "data": {"kind": "labelled", "train": [str(tmp_path / "train.tsv")], "dev": [str(tmp_path / "train.tsv")]},
        "text": {"kind": "words", "split": "spaces", "joint": False},
        "model": {"kind": kind, "width": 32},
        "train": {"steps": 300, "batch_tokens": 1000, "learning_rate": 1e-2, "metric": "accuracy"},
    }
    train(build(tree, where="the test"), out=tmp_path / "run", device="cuda")
    found = [list(Labeller.load(tmp_path / "run", device=device).label(rows)) for device in DEVICES]
    assert found[0] == found[1]
    right = [
        label == token.upper()
        for own, row in zip(found[1], rows, strict=True)
        for label, token in zip(own, row, strict=True)
    ]
    assert sum(right) > 0.9 * len(right)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="GPU"):
        device_of(f"cuda:{torch.cuda.device_count()}")
