"""`seqkit config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqkit.cli.main import main
from seqkit.config import build, load
from seqkit.settings.schema import keys

Captured = pytest.CaptureFixture[str]


def test_what_it_shows_is_a_recipe_that_means_the_same(tmp_path: Path, capsys: Captured) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "recipe.toml"
    first.write_text('[data]\ntrain = ["x.tsv"]\n')
    assert main(["config", "show", str(first), "model.width=64", "train.optimizer=muon"]) == 0
    second.write_text(capsys.readouterr().out)
    assert load(second) == load(first, ["model.width=64", "train.optimizer=muon"])
    assert main(["config", "show", str(tmp_path)]) == 0  # a run's folder
    assert capsys.readouterr().out == second.read_text()


def test_without_a_recipe_it_shows_one_to_begin_with(tmp_path: Path, capsys: Captured) -> None:
    assert main(["config", "show", "search.beam=2"]) == 0
    (tmp_path / "recipe.toml").write_text(capsys.readouterr().out)
    assert load(tmp_path / "recipe.toml").search.beam == 2


def test_json_is_the_same_recipe(capsys: Captured) -> None:
    assert main(["config", "show", "--json", "train.clip=none"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["train"].pop("clip") is None
    assert shown["model"]["kind"] == "transformer"


def test_mistakes_leave_stdout_empty(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[data]\ntrain = ["x.tsv"]\n[model]\nwidht = 3\n')
    assert main(["config", "show", str(path)]) == 2
    assert capsys.readouterr() == (
        "",
        f"seqkit: error: unknown setting model.widht ({path} line 4)\nhint: did you mean model.width?\n",
    )


def test_keys_are_a_table_with_a_line_each(capsys: Captured) -> None:
    assert main(["config", "keys"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["SETTING", "KIND", "TYPE", "DEFAULT", "MEANING"]
    assert [row.split()[0] for row in rows] == [key.path for key in keys()]
    column = heading.index("MEANING")
    assert [row[column:] for row in rows] == [key.description for key in keys()]


@pytest.mark.parametrize("prefix", ["train.optimizer", "train.optimizer.", "search.beam"])
def test_a_prefix_is_a_whole_part_of_a_path(prefix: str, capsys: Captured) -> None:
    assert main(["config", "keys", prefix, "--json"]) == 0
    found = [row["path"] for row in json.loads(capsys.readouterr().out)]
    whole = prefix.rstrip(".")
    assert found == [key.path for key in keys() if key.path == whole or key.path.startswith(f"{whole}.")]


def test_an_unknown_prefix_suggests_a_near_one(capsys: Captured) -> None:
    assert main(["config", "keys", "train.opt"]) == 2  # no whole part
    assert main(["config", "keys", "train.optimiser"]) == 2
    assert capsys.readouterr().err.endswith("hint: did you mean train.optimizer?\n")


def test_the_difference_of_two_recipes(tmp_path: Path, capsys: Captured) -> None:
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text('[data]\ntrain = ["x.tsv"]\n')
    new.write_text('[data]\ntrain = ["y.tsv"]\n[train]\nsteps = 3\n')
    assert main(["config", "diff", str(old), str(new)]) == 0
    assert capsys.readouterr().out == 'data.train\t["x.tsv"]\t["y.tsv"]\ntrain.steps\tnone\t3\n'
    assert main(["config", "diff", str(old), str(new), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1] == {"setting": "train.steps", "old": None, "new": 3}
    assert main(["config", "diff", str(old), str(old)]) == 0
    assert capsys.readouterr().out == ""


def test_the_recipe_to_begin_with_has_nothing_but_defaults(capsys: Captured) -> None:
    assert main(["config", "show"]) == 0
    chosen = [
        line
        for line in capsys.readouterr().out.splitlines()
        if " = " in line and not line.startswith("#") and not line.endswith("# default")
    ]
    assert chosen == ['kind = "pairs"', 'train = ["data/train.en", "data/train.de"]']
    assert build({"data": {"train": ["a"]}}, where="").train.steps is None
