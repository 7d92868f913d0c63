"""One folder, two trainers: the living one is respected, the dead one is not waited for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import pytest

from seqkit.storage.lock import RunLock
from tests.support.faults import attempt, begin, files, write_corpus

WORDS = ("train", "recipe.toml", "--out", "run", "--device", "cpu", "train.save_every=2", "train.steps=4")


@pytest.mark.slow
def test_the_second_is_refused_even_to_overwrite_and_nothing_changes(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    assert attempt(tmp_path, *WORDS).code == 0
    with RunLock(tmp_path / "run"):
        before = files(tmp_path / "run")
        for more in ([], ["--overwrite"]):
            ending = attempt(tmp_path, *WORDS, *more)
            assert ending.code == 8, ending.told
            error, hint = ending.told.splitlines()
            assert f"process {os.getpid()} on host {socket.gethostname()}" in error
            assert hint.startswith("hint: ")
        assert files(tmp_path / "run") == before
    assert attempt(tmp_path, *WORDS, "--overwrite").code == 0
    assert not (tmp_path / "run" / "lock").exists()


@pytest.mark.slow
def test_a_dead_one_is_taken_over_with_a_warning(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    process = begin(tmp_path, *WORDS, die_at=60)
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    ending = attempt(tmp_path, *WORDS)
    assert ending.code == 0, ending.told
    assert f"took over run/lock from process {process.pid}, which is dead" in ending.told


@pytest.mark.slow
def test_a_death_while_overwriting_never_mixes_two_runs(tmp_path: Path) -> None:
    """Either the old run is still known by its recipe, or nothing of it is left."""
    write_corpus(tmp_path)
    assert attempt(tmp_path, *WORDS).code == 0
    (tmp_path / "run").rename(tmp_path / "old")
    for moment in range(4, 44, 8):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(tmp_path / "old", tmp_path / "run")
        other = [*WORDS, "train.learning_rate=0.5"]
        assert attempt(tmp_path, *other, "--overwrite", die_at=moment).code == -signal.SIGKILL
        left = [*(tmp_path / "run").glob("checkpoints/step-*/*"), *(tmp_path / "run").glob("model/*")]
        recipe = tmp_path / "run" / "recipe.toml"
        assert not left or "learning_rate = 0.01" in recipe.read_text(encoding="utf-8")
        ending = attempt(tmp_path, *other, "--overwrite")
        assert ending.code == 0, ending.told
        assert "learning_rate = 0.5" in recipe.read_text(encoding="utf-8")
