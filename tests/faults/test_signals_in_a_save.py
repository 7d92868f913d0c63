"""Signals that arrive while a checkpoint is being written: the first waits for it, the second need not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from seqkit.storage import checkpoint, manifest
from tests.support.faults import assert_nothing_broken, assert_same_end, attempt, files, write_corpus

WORDS = (
    "train", "recipe.toml", "--out", "run", "--device", "cpu", "train.steps=9", "train.keep=9",
    "train.save_every=2", "train.validate_every=3", "train.log_seconds=1000",
)  # fmt: skip


def signalled(*numbers: int) -> None:
    """The signals come in the middle of the first checkpoint, when some of its files are written."""
    write, calls = manifest.write_tensors, 0

    def writing(*arguments: Any, **rest: Any) -> None:
        nonlocal calls
        calls += 1
        write(*arguments, **rest)
        if calls == 2:
            for number in numbers:
                os.kill(os.getpid(), number)

    patch.object(checkpoint, "write_tensors", writing).start()


def terminated() -> None:
    signalled(signal.SIGTERM)


def interrupted_twice() -> None:
    signalled(signal.SIGINT, signal.SIGINT)


@pytest.mark.slow
def test_a_save_is_completed_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    assert attempt(tmp_path, *WORDS).code == 0
    (tmp_path / "run").rename(tmp_path / "straight")
    ending = attempt(tmp_path, *WORDS, before=terminated)
    assert ending.code == 143, ending.told
    assert "all saved" in ending.told
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [2, 3]  # heeded with the next step
    assert_nothing_broken(tmp_path / "run")
    assert attempt(tmp_path, *WORDS).code == 0
    assert_same_end(tmp_path / "run", tmp_path / "straight")


@pytest.mark.slow
def test_a_second_interrupt_gives_the_save_up_and_leaves_no_part_of_it(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    ending = attempt(tmp_path, *WORDS, before=interrupted_twice)
    assert ending.code == 130, ending.told
    assert "Traceback" not in ending.told
    assert [name for name in files(tmp_path / "run") if name.startswith("checkpoints/")] == []
    assert not (tmp_path / "run" / "lock").exists()
    assert attempt(tmp_path, *WORDS).code == 0
