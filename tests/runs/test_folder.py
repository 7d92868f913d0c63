"""A run folder: which recipe it goes by, what may be changed later, and what is never thrown away."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.runs.folder import clear, out_of, recipe_of, tidy
from seqkit.runs.session import train
from seqkit.settings import Pairs, Recipe
from seqkit.storage import checkpoint
from tests.support.sessions import (
    refused,
    tensors,
    toy_recipe,
)


def test_a_changed_model_is_refused(corpus: Path) -> None:
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    changed = toy_recipe(corpus, steps=4, model={"width": 32})
    refused(changed, corpus / "run", ConfigError, "model.width", "16", "32", "--overwrite")


def test_equal_means_may_change_and_another_random_stream_may_not(corpus: Path) -> None:
    """Fused kernels make the same step, up to rounding; torch's own dropout draws other masks."""
    train(toy_recipe(corpus, steps=6), out=corpus / "straight", device="cpu")
    train(toy_recipe(corpus, steps=3), out=corpus / "run", device="cpu")
    train(toy_recipe(corpus, steps=6, fused_optimizer=False), out=corpus / "run", device="cpu")
    torch.testing.assert_close(tensors(corpus / "run"), tensors(corpus / "straight"), rtol=1e-3, atol=1e-5)
    refused(toy_recipe(corpus, steps=9, cheap_dropout=False), corpus / "run", ConfigError, "train.cheap_dropout")


def test_a_refusal_leaves_the_recipe_of_the_run_as_it_was(corpus: Path) -> None:
    """Even the harmless part of a command that is refused must not be taken over."""
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    before = (corpus / "run" / "recipe.toml").read_bytes()
    with (corpus / "train.tsv").open("a", encoding="utf-8") as stream:
        stream.write("a b\tb a\n")
    refused(toy_recipe(corpus, steps=4), corpus / "run", DataError, "--allow-data-change")
    assert (corpus / "run" / "recipe.toml").read_bytes() == before


def test_nothing_says_when_to_stop(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="when to stop"):
        train(toy_recipe(corpus, steps=None), out=corpus / "run", device="cpu")


def test_a_folder_that_is_no_run_is_not_thrown_away(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="not a run"):
        train(toy_recipe(corpus), out=corpus, device="cpu", overwrite=True)
    assert (corpus / "train.tsv").exists()


def test_overwriting_begins_anew(corpus: Path) -> None:
    train(toy_recipe(corpus, steps=4), out=corpus / "run", device="cpu")
    found = train(toy_recipe(corpus, steps=2, model={"width": 32}), out=corpus / "run", device="cpu", overwrite=True)
    assert found.step == 2
    assert checkpoint.steps(corpus / "run" / "checkpoints") == [2]


def test_a_run_stands_where_it_is_told_to_and_else_below_runs(tmp_path: Path) -> None:
    named = Recipe(name="en-de", data=Pairs(train=("a.tsv",)))
    assert out_of(named, None) == Path("runs/en-de")
    assert out_of(msgspec.structs.replace(named, out="elsewhere"), None) == Path("elsewhere")
    assert out_of(msgspec.structs.replace(named, out="elsewhere"), tmp_path) == tmp_path
    for name in ("..", "a/b", "a\0b"):
        with pytest.raises(ConfigError, match="no name of a folder"):
            out_of(msgspec.structs.replace(named, name=name), None)


def test_clearing_leaves_the_lock_alone(tmp_path: Path) -> None:
    for name in ("lock", "recipe.toml", "log.jsonl"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "checkpoints").mkdir()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_a_crash_left_half_written_goes_and_what_was_being_replaced_returns(tmp_path: Path) -> None:
    for folder in (".codec.tmp", "model.tmp", ".model.4242.old", "checkpoints/.step-00000001.tmp"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x").write_text(folder, encoding="utf-8")
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "model"]
    assert (tmp_path / "model" / "x").read_text(encoding="utf-8") == ".model.4242.old"


def test_a_recorded_recipe_that_cannot_be_read_is_a_fault_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        recipe_of(tmp_path)
    for content, words in ((b"\xff", "not UTF-8"), (b"name = 3", "recipe.toml")):
        (tmp_path / "recipe.toml").write_bytes(content)
        with pytest.raises(ModelError, match=words):
            recipe_of(tmp_path)
