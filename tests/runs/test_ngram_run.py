"""Counting a text is a run of one step, done once, and published whatever happened in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seqkit.config import build
from seqkit.errors import DataError
from seqkit.runs.session import train
from seqkit.runs.trained_model import load
from seqkit.settings import Recipe
from tests.support.sessions import contents, events, refused, same_tensors


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Lines of words: six to count, two to validate on."""
    lines = ["a b c d", "a b b", "c d a b", "d", "b c a", "c c d"]
    (tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (tmp_path / "dev.txt").write_text("a b c\nd a\n", encoding="utf-8")
    return tmp_path


def recipe(corpus: Path, *, dev: bool = True) -> Recipe:
    files = {"train": [str(corpus / "train.txt")], "dev": [str(corpus / "dev.txt")] if dev else []}
    tree = {
        "data": {"kind": "stream", "window": 7, **files},
        "text": {"kind": "words", "split": "spaces"},
        "model": {"kind": "ngram", "order": 3},
    }
    return build(tree, where="the test")


def test_counts_that_were_saved_and_not_published_are_published_by_the_same_command(corpus: Path) -> None:
    """As after a death behind the checkpoint."""
    settings, folder = recipe(corpus), corpus / "run"
    train(settings, out=folder, device="cpu")
    before = contents(folder)
    shutil.rmtree(folder / "model")
    (folder / "checkpoints" / "best.json").unlink()
    train(settings, out=folder, device="cpu")
    assert contents(folder) == before


def test_counting_twice_counts_once(corpus: Path) -> None:
    settings = recipe(corpus)
    found = train(settings, out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (1, "steps")
    before = contents(corpus / "run")
    found = train(settings, out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (1, "steps")
    assert contents(corpus / "run") == before
    train(settings, out=corpus / "again", device="cpu")
    same_tensors(corpus / "run", corpus / "again")


@pytest.mark.parametrize("dev", [True, False])
def test_what_is_published_has_the_loss_of_the_development_text_if_there_is_one(corpus: Path, dev: bool) -> None:
    progress = train(recipe(corpus, dev=dev), out=corpus / "run", device="cpu")
    valid = events(corpus / "run", "valid")
    assert [event["loss"] for event in valid] == ([progress.best] if dev else [])
    for folder in (corpus / "run", corpus / "run" / "model"):
        assert load(folder).facts["score"] == progress.best
    assert json.loads((corpus / "run" / "status.json").read_text(encoding="utf-8"))["state"] == "done"


def test_changed_text_is_refused(corpus: Path) -> None:
    train(recipe(corpus), out=corpus / "run", device="cpu")
    with (corpus / "train.txt").open("a", encoding="utf-8") as stream:
        stream.write("a d\n")
    refused(recipe(corpus), corpus / "run", DataError, "changed since it was counted", "--overwrite")
