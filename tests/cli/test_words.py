"""Words of the command line that several commands share: runs joined by +, and search settings alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.cli.words import runs_of, search_of
from seqkit.errors import ConfigError
from seqkit.settings import Pairs, Recipe, Search

RECIPE = Recipe(data=Pairs(train=("a",)), search=Search(beam=3))


def test_runs_are_joined_by_a_plus_unless_a_folder_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c++").mkdir()
    assert runs_of(["a", "b+c", "c++"]) == [Path("a"), Path("b"), Path("c"), Path("c++")]


def test_search_settings_are_the_recipe_s_but_for_those_that_are_given() -> None:
    assert search_of(RECIPE, []) is RECIPE.search
    changed = search_of(RECIPE, ["search.beam=7", "search.ban=[a, b c]"])
    assert changed == Search(beam=7, ban=("a", "b c"))
    assert RECIPE.search.beam == 3


@pytest.mark.parametrize("word", ["model.width=3", "train.steps=1", "beam=3"])
def test_other_settings_have_no_effect_and_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word} has no effect here"):
        search_of(RECIPE, ["search.beam=4", word])


def test_settings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.nbest = 4 is more than search\.beam = 3"):
        search_of(RECIPE, ["search.nbest=4"])
