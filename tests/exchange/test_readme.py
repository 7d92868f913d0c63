"""The README.txt of an exported folder is a program that translates as seqkit does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqkit.exchange.ct2 import export_ct2
from seqkit.exchange.marian import export_marian
from seqkit.exchange.publishing import ExportableModel, exportable_model
from seqkit.exchange.readme import ct2_readme, marian_readme
from tests.support.exports import PIECES, TARGETS, WORDS, Make, Tree, program_of

Readme = Callable[[ExportableModel, str], str]
ADVICE = "ignore:Recommended. pip install sacremoses:UserWarning"  # of the tokenizer, wherever it is loaded
LAYERS: dict[str, Tree] = {"words": WORDS, "joint": PIECES, "separate": {**PIECES, "joint": False}}
every_text_layer = pytest.mark.parametrize("text", LAYERS.values(), ids=LAYERS)


@every_text_layer
@pytest.mark.parametrize("readme", [ct2_readme, marian_readme])
def test_it_holds_a_program_that_names_the_folder_and_the_search_of_the_run(
    text: Tree, readme: Readme, tiny: Make, tmp_path: Path
) -> None:
    path = tiny(text, {"norm": "post", "tied": "output"})
    exportable = exportable_model(path, tmp_path / "out", tool="it", overwrite=False)
    (tmp_path / "README.txt").write_text(readme(exportable, "folder-of-mine"), encoding="utf-8")
    program = program_of(tmp_path / "README.txt")
    compile(program, "README.txt", "exec")
    assert '"folder-of-mine"' in program
    if readme is ct2_readme:
        assert f"beam_size={exportable.loaded.recipe.search.beam}," in program
    pieces = text["kind"] == "sentencepiece"
    assert ("folder-of-mine/codec" in program) != pieces
    assert (tmp_path / "README.txt").read_text(encoding="utf-8").startswith("en-de, a Transformer trained with seqkit")


@pytest.mark.slow
@every_text_layer
def test_the_program_for_ctranslate2_translates(
    text: Tree, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ctranslate2")
    monkeypatch.chdir(tmp_path)
    path = tiny(text, {"norm": "post", "tied": "output"}, steps=100)
    export_ct2(path, tmp_path / "out")
    exec(program_of(tmp_path / "out" / "README.txt"), {})
    assert capsys.readouterr().out == f"{TARGETS[1]}\n{TARGETS[3]}\n"


@pytest.mark.slow
@pytest.mark.filterwarnings(ADVICE)
@every_text_layer
def test_the_program_for_marian_translates(
    text: Tree, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    path = tiny(text, {"norm": "post", "tied": "output"}, steps=100)
    export_marian(path, tmp_path / "out")
    capsys.readouterr()
    exec(program_of(tmp_path / "out" / "README.txt"), {})
    assert capsys.readouterr().out == f"{TARGETS[1]}\n{TARGETS[3]}\n"
