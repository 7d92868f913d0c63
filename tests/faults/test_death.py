"""Death by SIGKILL, wherever it falls: the same command goes on, and what comes out is what would have come out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from seqkit.storage import checkpoint
from seqkit.training.callbacks import Validation
from tests.support.faults import assert_nothing_broken, assert_same_end, attempt, events, files, scores, write_corpus

# Nine steps: saves, validations that are the best and others, pruning, and a last step at which all of it happens.
WORDS = (
    "train", "recipe.toml", "--out", "run", "--device", "cpu", "train.steps=9", "train.keep=1",
    "train.save_every=2", "train.validate_every=3", "train.log_seconds=1000",
)  # fmt: skip


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


POINTS = ("before-write", "after-model", "before-manifest", "before-rename", "after-rename", "mid-prune")


@pytest.mark.slow
def test_death_at_each_named_point_one_after_the_other(tmp_path: Path, straight: tuple[Path, int]) -> None:
    """Seven deaths of one run, as started from a shell; the last falls between the renames of the only checkpoint."""
    write_corpus(tmp_path)
    words = [sys.executable, "-m", "seqkit", *WORDS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for point in (*POINTS, "between-renames"):
        ending = subprocess.run(
            words, cwd=tmp_path, env={**environment, "SEQKIT_FAULT": point}, capture_output=True, text=True
        )
        assert ending.returncode == -signal.SIGKILL, (point, ending.stderr)
        assert_nothing_broken(tmp_path / "run")
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []  # for a moment none has its name
    ending = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ending.returncode == 0, ending.stderr
    assert "resuming run at step 9" in ending.stderr
    assert_same_end(tmp_path / "run", straight[0])


@pytest.mark.slow
@pytest.mark.parametrize("offset", [5, 13])
def test_death_at_some_touches_of_a_file(tmp_path: Path, straight: tuple[Path, int], offset: int) -> None:
    """Spread over the whole of a run: locking, learning the text layer, saving, pruning, publishing."""
    run, moments = straight
    for moment in range(offset, moments, 16):
        dies_and_goes_on(tmp_path, run, moment)


@pytest.mark.slow
def test_death_upon_death(tmp_path: Path, straight: tuple[Path, int]) -> None:
    """Each attempt clears up behind another one, and dies before long itself."""
    dies_and_goes_on(tmp_path, straight[0], *range(30, 90, 6))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_death_at_every_touch_of_a_file(tmp_path: Path, straight: tuple[Path, int]) -> None:
    run, moments = straight
    for moment in range(1, moments + 1):
        dies_and_goes_on(tmp_path, run, moment)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "more"),
    [
        ("epochs", ["train.epochs=1", "train.validate_every=4"]),
        ("patience", ["train.patience=1", "train.validate_every=3", "train.learning_rate=1e-12"]),
    ],
)
def test_an_end_that_was_decided_is_not_forgotten(tmp_path: Path, limit: str, more: list[str]) -> None:
    """A run dies behind its last step, its end decided and saved but not acted on: only what is left is done."""
    write_corpus(tmp_path)
    words = ["train", "recipe.toml", "--out", "run", "--device", "cpu", *more, "train.save_every=3", "train.keep=9"]
    assert attempt(tmp_path, *words, before=die_behind_the_last_step).code == -signal.SIGKILL
    stood = checkpoint.steps(tmp_path / "run" / "checkpoints")[-1]
    ending = attempt(tmp_path, *words)
    assert ending.code == 0, ending.told
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == stood
    assert stood in {step for step, _ in scores(events(tmp_path / "run"))}  # the last step is validated, always
    last = events(tmp_path / "run")[-1]
    assert (last["event"], last["reason"], last["step"]) == ("end", limit, stood)


def die_behind_the_last_step() -> None:
    patch.object(Validation, "ended", lambda self, trainer: os.kill(os.getpid(), signal.SIGKILL)).start()


@pytest.mark.slow
def test_a_complete_run_whose_model_was_not_published_publishes_it(tmp_path: Path, straight: tuple[Path, int]) -> None:
    write_corpus(tmp_path)
    shutil.copytree(straight[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    ending = attempt(tmp_path, *WORDS)
    assert "already complete" in ending.told
    assert_same_end(tmp_path / "run", straight[0])
    before = files(tmp_path / "run")
    assert attempt(tmp_path, *WORDS).code == 0
    assert files(tmp_path / "run") == before
