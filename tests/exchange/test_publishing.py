"""What all exports share: which models can be exported, what is never replaced, and complete folders or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.errors import ConfigError
from seqkit.exchange.publishing import exportable_model, publishing, write_text_layer
from seqkit.storage.manifest import check
from seqkit.text.codec import Codecs
from tests.support.exports import CHARACTERS, PIECES, WORDS, Make, Tree, tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("run"), text=WORDS, model={}, steps=0)


def test_a_transformer_for_translation_can_be_exported(run: Path, tmp_path: Path) -> None:
    exportable = exportable_model(run, tmp_path / "out", tool="the tool", overwrite=False)
    assert exportable.settings == exportable.loaded.recipe.model
    assert exportable.positions == 1 + max(2 * 40, exportable.loaded.recipe.search.maximum_length)
    assert exportable.facts["name"] == "toy"


@pytest.mark.parametrize("kind", ["recurrent", "plain", "mixed"])
def test_other_models_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    sizes: Tree = {"width": 4, "embedding": 4} if kind != "mixed" else {"width": 4, "heads": 2}
    path = tiny_model(tmp_path / "run", text=WORDS, model={"kind": kind, **sizes}, steps=0)
    with pytest.raises(ConfigError, match=f'model.kind = "{kind}" does not fit the tool') as caught:
        exportable_model(path, tmp_path / "out", tool="the tool", overwrite=False)
    assert caught.value.hint is not None
    assert 'model.kind="transformer"' in caught.value.hint


def test_what_is_in_the_way_stays_unless_it_is_an_export_and_may_be_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="exists") as caught:
        exportable_model(run, tmp_path, tool="the tool", overwrite=False)
    assert caught.value.hint == "--overwrite replaces it"
    for path in (tmp_path, tmp_path / "precious"):
        with pytest.raises(ConfigError, match="not an export"):
            exportable_model(run, path, tool="the tool", overwrite=True)
    for name, content in (("empty", None), ("old", "{}")):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "config.json").write_text(content, encoding="utf-8")
        assert exportable_model(run, tmp_path / name, tool="the tool", overwrite=True)


def test_a_folder_is_there_as_a_whole_or_not_at_all(run: Path, tmp_path: Path) -> None:
    exportable = exportable_model(run, tmp_path / "out", tool="the tool", overwrite=False)

    def torn() -> None:
        with publishing(tmp_path / "out", exportable) as partial:
            (partial / "config.json").write_text("{}", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert not list(tmp_path.iterdir())
    with publishing(tmp_path / "out", exportable) as partial:
        (partial / "config.json").write_text("{}", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert check(tmp_path / "out").facts == exportable.facts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PIECES, ["sentencepiece.model"]),
        ({**PIECES, "joint": False}, ["source.spm", "target.spm"]),
        (CHARACTERS, ["codec"]),
    ],
    ids=["joint", "separate", "characters"],
)
def test_text_layers_are_pieces_or_our_own(text: Tree, names: list[str], tiny: Make, tmp_path: Path) -> None:
    codecs = exportable_model(
        tiny(text, {"tied": "output"}), tmp_path / "x", tool="the tool", overwrite=False
    ).loaded.codecs
    write_text_layer(tmp_path, codecs)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    if names == ["codec"]:
        assert Codecs.load(tmp_path / "codec").target.fingerprint == codecs.target.fingerprint
