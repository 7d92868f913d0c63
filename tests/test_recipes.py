"""Recipes load, and the recipe scripts run from data to scores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seqkit import config, demo

RECIPES = Path(__file__).parent.parent / "recipes"
SMALL = ["train.processes=1", "train.validate_every=1000", "train.batch_tokens=512"]


def run(script: str, *words: str, folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RECIPES / script), *words], cwd=folder, input=given, capture_output=True, text=True
    )


def write(folder: Path, name: str, count: int, *, seed: int) -> None:
    pairs = demo.numbers(count, seed=seed)
    for side, language in enumerate(("en", "de")):
        (folder / f"{name}.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_is_sound_and_named_after_its_file(path: Path) -> None:
    recipe = config.load(path)
    assert recipe.name == path.stem
    assert recipe.data.dev, "a recipe that people start from watches a development set"


@pytest.mark.slow
def test_train_translation_and_translate_interactively(tmp_path: Path) -> None:
    write(tmp_path, "train", 400, seed=1)
    write(tmp_path, "dev", 20, seed=2)
    words = ["--train", "train.en", "train.de", "--dev", "dev.en", "dev.de", "--out", "run", "--minutes", "0.2"]
    trained = run("train_translation.py", *words, "--size", "320", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    best, bleu, chrf = trained.stdout.splitlines()[-3:]
    assert "best development BLEU" in best
    assert bleu.startswith("BLEU ")
    assert chrf.startswith("chrF")
    assert all("nrefs:1|case:mixed" in line for line in (bleu, chrf))

    typed = run("translate_interactively.py", "run", "--align", folder=tmp_path, given="the 5th of March\n\nseven\n")
    assert typed.returncode == 0, typed.stderr
    assert "attention" in typed.stdout  # the picture's note

    wrong = run("translate_interactively.py", "rnu", folder=tmp_path)
    assert wrong.returncode == 4
    assert len(wrong.stderr.strip().splitlines()) == 2


@pytest.mark.slow
def test_multi30k_prepares_trains_and_compares(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 300), ("val", 20), ("test_2016_flickr", 20)):
        write(data, name, count, seed=len(name))
    tiny = ["text.size=320", "model.width=16", "model.dropout=0.1", "train.steps=4", *SMALL]
    words = ["--data", "data", "--out", "runs", "--models", "gru", "transformer", "--minutes", "1", "--set", *tiny]
    found = run("multi30k.py", *words, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    table = found.stdout.splitlines()
    assert [line.split()[0] for line in table[-3:]] == ["model", "gru", "transformer"]
    assert all(0 <= float(line.split()[2]) <= 100 for line in table[-2:])


@pytest.mark.slow
def test_multi30k_diversified_learns_from_its_own_translations(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 300), ("val", 20)):
        write(data, name, count, seed=len(name))
    tiny = ["text.size=320", "model.width=16", "model.dropout=0.1", "train.steps=4", *SMALL]
    words = ["--data", "data", "--out", "runs", "--minutes", "2", "--set", *tiny]
    found = run("multi30k_diversified.py", *words, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    for name in ("from_en.de", "from_de.en"):
        assert len((tmp_path / "runs" / name).read_text(encoding="utf-8").splitlines()) == 300
    learnt = config.load(tmp_path / "runs" / "last" / "recipe.toml").data
    corpora = ["data/train.en", "data/train.de", "data/train.en", "runs/from_en.de", "runs/from_de.en", "data/train.de"]
    assert list(learnt.train) == corpora
    assert "900 training pairs" in found.stderr  # the text, its German translated and its English
    made = (tmp_path / "runs" / "from_en.de").stat().st_mtime_ns
    again = run("multi30k_diversified.py", *words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "runs" / "from_en.de").stat().st_mtime_ns == made  # translated once
    assert again.stderr.count("already complete") == 3


@pytest.mark.slow
def test_compare_trains_each_variant_with_each_seed(tmp_path: Path) -> None:
    for name, count in (("train", 300), ("dev", 20), ("test", 20)):
        write(tmp_path, name, count, seed=len(name))
    data = '[data]\nkind = "pairs"\ntrain = ["train.{en,de}"]\ndev = ["dev.{en,de}"]\n'
    text = '[text]\nkind = "sentencepiece"\nsize = 320\n'
    model = '[model]\nkind = "recurrent"\nwidth = 16\n[train]\nsteps = 4\n'
    (tmp_path / "recipe.toml").write_text('name = "small"\n' + data + text + model, encoding="utf-8")
    words = ["recipe.toml", "--test", "test.en", "test.de", "--seeds", "1", "2", "--set", *SMALL]
    variants = ["--variant", "plain", "--variant", "smooth", "train.label_smoothing=0.3"]
    found = run("compare.py", *words, *variants, folder=tmp_path)
    assert found.returncode == 0, found.stderr
    plain, smooth, _, signature = found.stdout.splitlines()[-4:]
    assert "nrefs:1|case:mixed" in signature
    assert plain.startswith("| plain |  | ")
    assert plain.split(" | ")[-2] == "4"  # steps
    assert smooth.startswith("| smooth | `train.label_smoothing=0.3` | ")
    runs = tmp_path / "runs" / "compare"
    assert sorted(each.name for each in runs.iterdir()) == ["plain-1", "plain-2", "smooth-1", "smooth-2"]
    smoothed = config.load(runs / "smooth-2" / "recipe.toml").train
    assert (smoothed.seed, smoothed.label_smoothing) == (2, 0.3)
    assert config.load(runs / "plain-1" / "recipe.toml").train.label_smoothing != 0.3


@pytest.mark.slow
def test_perplexity_trains_mixes_and_compares(tmp_path: Path) -> None:
    lines = [source for source, _ in demo.numbers(300, seed=1)]
    (tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in lines[:250]), encoding="utf-8")
    (tmp_path / "dev.txt").write_text("".join(f"{line}\n" for line in lines[250:]), encoding="utf-8")
    shared = '[data]\nkind = "stream"\ntrain = ["train.txt"]\ndev = ["dev.txt"]\nwindow = 10\n[text]\nkind = "words"\n'
    counted = 'name = "counted"\n' + shared + '[model]\nkind = "ngram"\norder = 3\n'
    size = "width = 16\nembedding = 16\n"
    network = 'name = "network"\n' + shared + f'[model]\nkind = "recurrent_language_model"\n{size}[train]\nsteps = 40\n'
    (tmp_path / "counted.toml").write_text(counted, encoding="utf-8")
    (tmp_path / "network.toml").write_text(network + "batch_tokens = 200\nprocesses = 1\n", encoding="utf-8")
    found = run("perplexity.py", "counted.toml", "network.toml", "--cache", "50", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    table = found.stdout.splitlines()[-6:]
    assert table[0].split()[0] == "model"
    figures = {line[:40].strip(): float(line[40:].split()[0]) for line in table[1:]}
    assert list(figures) == ["counted", "network", "counted and a cache", "mixed", "mixed, with a cache"]
    assert figures["mixed"] <= min(figures["counted"], figures["network"]) + 1e-6
    assert figures["mixed, with a cache"] <= figures["mixed"] + 0.01

    wrong = run("perplexity.py", "missing.toml", folder=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.strip() == "missing.toml does not exist"
