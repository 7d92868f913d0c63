"""Damage to what is on the disk: found by its checksum, told, and passed over where something good is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqkit.errors import ModelError
from seqkit.storage import checkpoint
from tests.support.faults import assert_same_end, attempt, events, files, write_corpus

WORDS = (
    "train", "recipe.toml", "--out", "run", "--device", "cpu", "train.steps=9", "train.keep=9",
    "train.save_every=2", "train.validate_every=3", "train.log_seconds=1000",
)  # fmt: skip
FILES = ("model.safetensors", "average.safetensors", "optimizer.safetensors", "training.json", "manifest.json")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE: list[Callable[[Path], None]] = [flip, truncate, zero, empty, Path.unlink]
every_file = pytest.mark.parametrize("name", FILES)
every_damage = pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)


@every_file
@every_damage
def test_the_newest_is_passed_over_whatever_happened_to_which_file(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    weights = {"w": torch.arange(50.0)}
    for step in (1, 2, 3):
        tensors = {"model": weights, "average": weights, "optimizer": weights}
        checkpoint.save(tmp_path, step, tensors=tensors, training={"step": step}, codec="abc")
    assert {path.name for path in checkpoint.step_path(tmp_path, 3).iterdir()} == set(FILES)
    damage(checkpoint.step_path(tmp_path, 3) / name)
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 2
    [warning] = warnings
    assert f"step-00000003/{name}" in warning
    for step in (1, 2):
        damage(checkpoint.step_path(tmp_path, step) / name)
    before = files(tmp_path)
    with pytest.raises(ModelError, match="no good checkpoint left"):
        checkpoint.newest(tmp_path)
    assert checkpoint.prune(tmp_path, 1) == []
    assert files(tmp_path) == before


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a run that was stopped at step 6, and the same run at its end."""
    folder = tmp_path_factory.mktemp("halfway")
    write_corpus(folder)
    assert attempt(folder, *WORDS[:-1], "train.steps=6").code == 0
    shutil.copytree(folder / "run", folder / "stopped")
    ending = attempt(folder, *WORDS)
    assert ending.code == 0, ending.told
    return folder / "stopped", folder / "run"


def taken_up(folder: Path, stopped: Path) -> Path:
    write_corpus(folder)
    return Path(shutil.copytree(stopped, folder / "run"))


def warnings(run: Path) -> list[str]:
    return [line["message"] for line in events(run) if line["event"] == "warn"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, empty, Path.unlink], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["optimizer.safetensors", "manifest.json"])
def test_a_run_goes_on_from_the_one_before(
    tmp_path: Path, halfway: tuple[Path, Path], name: str, damage: Callable[[Path], None]
) -> None:
    stopped, straight = halfway
    run = taken_up(tmp_path, stopped)
    damage(run / "checkpoints" / "step-00000006" / name)
    ending = attempt(tmp_path, *WORDS)
    assert ending.code == 0, ending.told
    assert "resuming run at step 4" in ending.told
    [warning] = warnings(run)
    assert "step-00000006/" in warning
    assert "using step-00000004" in warning
    assert_same_end(run, straight)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, empty, Path.unlink], ids=lambda damage: damage.__name__)
def test_a_damaged_note_of_the_best_is_written_anew(
    tmp_path: Path, halfway: tuple[Path, Path], damage: Callable[[Path], None]
) -> None:
    stopped, straight = halfway
    run = taken_up(tmp_path, stopped)
    damage(run / "checkpoints" / "best.json")
    ending = attempt(tmp_path, *WORDS)
    assert ending.code == 0, ending.told
    assert_same_end(run, straight)


@pytest.mark.slow
def test_with_none_left_nothing_is_trained_and_nothing_is_translated(
    tmp_path: Path, halfway: tuple[Path, Path]
) -> None:
    run = taken_up(tmp_path, halfway[0])
    for path in run.glob("checkpoints/*/model.safetensors"):
        flip(path)
    before = files(run)
    for words in (WORDS, ("translate", "run", "-i", "dev.tsv", "-o", "out")):
        ending = attempt(tmp_path, *words)
        assert ending.code == 4, ending.told
        error, hint = ending.told.splitlines()
        assert error.startswith("seqkit: error: no good checkpoint left in run/checkpoints: step-00000006/model.")
        assert hint.startswith("hint: ")
    after = files(run)
    assert b'"exit_code":4' in after.pop("status.json")  # all that is written is the refusal
    before.pop("status.json")
    assert after == before
    assert not (tmp_path / "out").exists()
