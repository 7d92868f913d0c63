"""Death by SIGKILL, wherever it falls: the same command goes on, and what comes out is what would have come out."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from fault_toys import assert_nothing_broken, assert_same_end, attempt, write_corpus

# Nine steps: saves, validations that are the best and others, pruning, and a last step at which all of it happens.
WORDS = ("train", "recipe.toml", "--out", "run", "--device", "cpu", "train.steps=9", "train.keep=1")
WORDS += ("train.save_every=2", "train.validate_every=3", "train.log_seconds=1000")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a run that nobody disturbed, and how often it touched a file."""
    folder = tmp_path_factory.mktemp("straight")
    write_corpus(folder)
    ending = attempt(folder, *WORDS)
    assert ending.code == 0, ending.told
    return folder / "run", ending.moments


def dies_and_goes_on(folder: Path, straight: Path, *moments: int) -> None:
    """The run dies at each of the moments, one attempt after the other, and ends like the one left undisturbed."""
    write_corpus(folder)
    shutil.rmtree(folder / "run", ignore_errors=True)
    for moment in moments:
        ending = attempt(folder, *WORDS, die_at=moment)
        assert ending.code in (-signal.SIGKILL, 0), ending.told
        assert_nothing_broken(folder / "run")
    ending = attempt(folder, *WORDS)
    assert ending.code == 0, ending.told
    assert_same_end(folder / "run", straight)


@pytest.mark.long
def test_death_at_every_touch_of_a_file(tmp_path: Path, straight: tuple[Path, int]) -> None:
    run, moments = straight
    wrong = {}
    for moment in range(1, moments + 1):
        try:
            dies_and_goes_on(tmp_path, run, moment)
        except AssertionError as error:
            wrong[moment] = str(error)[:600]
    assert wrong == {}
