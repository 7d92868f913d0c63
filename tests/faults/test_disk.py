"""Disks that are full, read-only or not there: told in one line, with what is needed, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest

from seqkit.storage import checkpoint
from tests.support.faults import assert_nothing_broken, assert_same_end, attempt, events, files, write_corpus

WORDS = (
    "train", "recipe.toml", "--out", "run", "--device", "cpu", "train.save_every=2", "train.keep=9",
    "train.validate_every=3", "train.log_seconds=1000",
)  # fmt: skip
LIMIT = 12_000  # bytes of a file: less than the weights, more than all else


def full() -> None:
    """No file can grow beyond the limit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))


def full_for_a_while() -> None:
    """There is room again when the second checkpoint could not be written."""
    full()
    save, calls = checkpoint.save, 0

    def saving(*arguments: Any, **rest: Any) -> Path:
        nonlocal calls
        calls += 1
        if calls > 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return save(*arguments, **rest)

    patch.object(checkpoint, "save", saving).start()


def two_lines(told: str) -> tuple[str, str]:
    """The error and the hint with which a command ended."""
    assert "Traceback" not in told
    error, hint = told.strip().splitlines()[-2:]
    assert error.startswith("seqkit: error: ")
    assert hint.startswith("hint: ")
    return error, hint


@pytest.mark.slow
def test_training_goes_on_over_a_full_disk_and_saves_when_there_is_room(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    assert attempt(tmp_path, *WORDS, "train.steps=9").code == 0
    (tmp_path / "run").rename(tmp_path / "straight")
    ending = attempt(tmp_path, *WORDS, "train.steps=9", before=full_for_a_while)
    assert ending.code == 0, ending.told
    warnings = [line["message"] for line in events(tmp_path / "run") if line["event"] == "warn"]
    assert len(warnings) == 2
    assert all("step-0000000" in line and "needed" in line and "free" in line for line in warnings)
    assert [warning in ending.told for warning in warnings] == [True, True]
    late = checkpoint.steps(tmp_path / "run" / "checkpoints")
    for step in {*checkpoint.steps(tmp_path / "straight" / "checkpoints")} - {*late}:
        shutil.rmtree(checkpoint.step_path(tmp_path / "straight" / "checkpoints", step))
    assert len(late) >= 3
    assert_same_end(tmp_path / "run", tmp_path / "straight")


@pytest.mark.slow
def test_a_last_checkpoint_without_room_is_an_error_that_names_the_last_good_one(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    assert attempt(tmp_path, *WORDS, "train.steps=4").code == 0
    before = files(tmp_path / "run" / "checkpoints")
    ending = attempt(tmp_path, *WORDS, "train.steps=7", before=full)
    assert ending.code == 5
    error, hint = two_lines(ending.told)
    assert "step-00000007" in error
    assert "the last checkpoint is step 4" in hint
    assert files(tmp_path / "run" / "checkpoints") == before
    assert_nothing_broken(tmp_path / "run")
    assert attempt(tmp_path, *WORDS, "train.steps=7").code == 0
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 7


def no_space() -> None:
    """A disk with a few bytes left."""

    class Usage(NamedTuple):
        free: int = 1000

    patch.object(shutil, "disk_usage", lambda path: Usage()).start()


def not_even_a_recipe() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "out", "before", "words"),
    [
        (2, "recipe.toml", None, ["recipe.toml"]),
        (2, "recipe.toml/run", None, ["recipe.toml/run"]),
        (5, "run", no_space, ["checkpoints", "kB needed", "1 kB free"]),
        (5, "run", not_even_a_recipe, ["recipe.toml", "too large"]),
    ],
)
def test_what_cannot_be_saved_is_not_begun(
    tmp_path: Path, code: int, out: str, before: Callable[[], None] | None, words: list[str]
) -> None:
    write_corpus(tmp_path)
    ending = attempt(tmp_path, "train", "recipe.toml", "--out", out, "--device", "cpu", "train.steps=3", before=before)
    assert ending.code == code, ending.told
    error, _ = two_lines(ending.told)
    assert [word for word in words if word not in error] == []
    assert "step=" not in ending.told
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="to the superuser nothing is read-only")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    (tmp_path / "run").mkdir(mode=0o555)
    ending = attempt(tmp_path, *WORDS, "train.steps=3")
    assert ending.code == 5, ending.told
    assert "Permission denied" in two_lines(ending.told)[0]


def closed_to_others() -> None:
    os.umask(0o077)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "mode"), [(None, 0o644), (closed_to_others, 0o600)])
def test_every_file_of_a_run_has_the_mode_that_the_umask_gives(
    tmp_path: Path, before: Callable[[], None] | None, mode: int
) -> None:
    write_corpus(tmp_path)
    old = os.umask(0o022)  # the attempt sets its own, if it is to have another
    os.umask(old)
    if before is None and old != 0o022:
        pytest.skip("the umask is not the usual one")
    assert attempt(tmp_path, *WORDS, "train.steps=3", before=before).code == 0
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert {str(path) for path, found in modes.items() if found != mode} == set()
    assert len(modes) > 10
