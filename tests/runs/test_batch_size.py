"""`train.batch_tokens=auto`: as many as fit, found once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.batch import Batch
from seqkit.config import build, load
from seqkit.demo import reverse
from seqkit.errors import ResourceError
from seqkit.loss import Tally
from seqkit.runs import batch_size
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.state import State
from seqkit.system.host import MachineMemory
from seqkit.training import trainer
from seqkit.training.objective import Objective


def recipe(folder: Path, *, steps: int = 2) -> Recipe:
    rows = "".join(f"{source}\t{target}\n" for source, target in reverse(2000, seed=1))
    (folder / "train.tsv").write_text(rows, encoding="utf-8")
    return build(
        {
            "data": {"train": [str(folder / "train.tsv")]},
            "text": {"kind": "words", "split": "spaces"},
            "model": {"kind": "transformer", "width": 8, "heads": 2, "feed_forward": 8, "encoder_layers": 1}
            | {"decoder_layers": 1},
            "train": {"batch_tokens": "auto", "steps": steps, "processes": 1, "keep_heap": False},
        },
        where="the test",
    )


def crowd(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """No batch of more than so many target positions fits."""
    original = Objective.forward

    def forward(self: Objective, batch: Batch, state: State = None) -> tuple[Tally, State]:
        if batch.targets.ids.numel() > room:
            raise torch.OutOfMemoryError("no room")
        return original(self, batch, state)

    monkeypatch.setattr(Objective, "forward", forward)


@pytest.mark.slow
@pytest.mark.parametrize(("room", "found"), [(600, 512), (3000, 2048), (10**9, 4096)])
def test_the_largest_budget_that_fits_is_taken_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, found: int
) -> None:
    crowd(monkeypatch, room)
    train(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    assert load(tmp_path / "run" / "recipe.toml").train.batch_tokens == found


@pytest.mark.slow
def test_little_memory_makes_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "memory", lambda: MachineMemory(1 << 30, 1 << 20, None))
    monkeypatch.setattr(trainer, "peak", lambda device: 10 << 20)
    monkeypatch.setattr(batch_size, "peak", lambda device: 1 << 20)
    train(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    assert load(tmp_path / "run" / "recipe.toml").train.batch_tokens == 512  # the least there is


@pytest.mark.slow
def test_a_run_goes_on_with_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as narrow:
        crowd(narrow, 1500)
        train(recipe(tmp_path), out=tmp_path / "run", device="cpu")
    progress = train(recipe(tmp_path, steps=4), out=tmp_path / "run", device="cpu")
    assert progress.step == 4
    assert load(tmp_path / "run" / "recipe.toml").train.batch_tokens == 1024


def test_where_nothing_fits_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(monkeypatch, 10)
    with pytest.raises(ResourceError, match="out of memory"):
        train(recipe(tmp_path), out=tmp_path / "run", device="cpu")
