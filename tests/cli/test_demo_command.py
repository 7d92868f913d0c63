"""`seqkit demo`: it writes a corpus and a sound recipe, learns, and says what to type next."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqkit import config
from seqkit.cli.main import main
from seqkit.data.corpora import read_pairs
from seqkit.data.labelled_text import read_labelled
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.runs import folder as run_folder
from seqkit.settings import Labelled, Pairs

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("task", ["numbers", "reverse"])
def test_pairs_and_a_recipe_that_is_sound_are_written(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", task, "--files", "here"]) == 0
    assert capsys.readouterr() == (
        "",
        "wrote here/train.tsv, dev.tsv, test.tsv and recipe.toml\nnext: seqkit train here/recipe.toml\n",
    )
    recipe = config.load(Path("here/recipe.toml"))
    assert isinstance(recipe.data, Pairs)
    assert (recipe.data.train, recipe.data.dev) == (("here/train.tsv",), ("here/dev.tsv",))
    assert recipe.out == "here/run"
    train, test = (read_pairs([f"here/{name}.tsv"]) for name in ("train", "test"))
    assert not set(train.source) & set(test.source)


def test_the_demo_writes_its_corpus_and_a_recipe_that_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "labels", "--files", "here"]) == 0
    assert "seqkit train here/recipe.toml" in capsys.readouterr().err
    recipe = config.load(Path("here/recipe.toml"))
    assert isinstance(recipe.data, Labelled)
    assert recipe.out == "here/run"
    train, dev, test = (read_labelled([Path("here") / f"{name}.tsv"]) for name in ("train", "dev", "test"))
    assert (train, dev, test) == labels_demo.splits(seed=1)
    assert (recipe.data.train, recipe.data.dev) == (("here/train.tsv",), ("here/dev.tsv",))


@pytest.mark.slow
def test_the_demo_shows_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder, "cores", lambda: 1)
    assert main(["demo", "labels", "--out", "here"]) == 0
    out, err = capsys.readouterr()
    accuracy = re.search(r"accuracy +([\d.]+) %", out)
    assert accuracy is not None
    assert float(accuracy[1]) > 95
    assert "B-PER" in out
    assert "seqkit label here/run" in err


@pytest.mark.slow
@pytest.mark.distributed
def test_the_demo_learns_and_says_what_to_type_next(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "seqkit", "demo", "reverse", "--out", "here"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    exact = re.search(r"exact match\s+([\d.]+) %", found.stdout)
    assert exact is not None
    assert float(exact[1]) > 50  # on an idle machine about 95; a busy one gets fewer steps in its minute
    assert "attention is a hint" in found.stdout
    assert "seqkit translate here/run" in found.stderr
    assert (tmp_path / "here" / "run" / "model" / "manifest.json").exists()
