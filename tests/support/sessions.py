"""Whole runs in a test: stopped where it is wanted, and what they left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import pytest
import torch
from torch import Tensor

from seqkit.config import build
from seqkit.demo import reverse
from seqkit.errors import Interrupted, SeqkitError
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.storage import checkpoint
from seqkit.training.callbacks import StopRequest
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Progress, Trainer, Update

WHEN = {"t", "attempt", "seconds"}


class Seen(NamedTuple):
    """One step: its numbers, and which pairs it read."""

    loss: float
    rate: float
    norm: float
    pairs: list[tuple[int, ...]]


class AfterLooks(StopRequest):
    """A signal that arrives when it has been looked for so many times: after a step, or in a validation."""

    looks = 0

    def __init__(self, looks: int) -> None:
        super().__init__(signal=15)
        self.looks = looks

    def __getattribute__(self, name: str) -> Any:
        if name == "reason":
            self.looks -= 1
            return "SIGTERM" if self.looks <= 0 else None
        return super().__getattribute__(name)


def tensors(run: Path) -> dict[str, Tensor]:
    """Everything in the newest checkpoint: weights, average, optimizer."""
    found, _ = checkpoint.newest(run / "checkpoints")
    assert found is not None
    return {f"{stem}/{name}": tensor for stem in found.stems for name, tensor in found.tensors(stem).items()}


def progress(run: Path, step: int | None = None) -> Progress:
    """Where the run stood at a saved step, or at the newest one; not how long it took."""
    folder = run / "checkpoints"
    found = checkpoint.newest(folder)[0] if step is None else checkpoint.read(checkpoint.step_path(folder, step))
    assert found is not None
    return msgspec.convert({**found.training["progress"], "seconds": 0.0}, Progress)


def same(run: Path, other: Path) -> None:
    """Bit for bit."""
    assert progress(run) == progress(other)
    same_tensors(run, other)


def same_tensors(run: Path, other: Path) -> None:
    one, two = tensors(run), tensors(other)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def events(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """The events of these kinds in the log of a run, of all attempts."""
    lines = (run / "log.jsonl").read_bytes().splitlines()
    return [event for event in map(msgspec.json.decode, lines) if event["event"] in kinds]


def scored(run: Path) -> list[dict[str, Any]]:
    """What the validations of a run found, as its log has it, and which were the best; but not when."""
    found = events(run, "valid", "best")
    return [{key: value for key, value in event.items() if key not in WHEN} for event in found]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped(recipe: Recipe, out: Path, *, at: int) -> None:
    """Train until a wish, made before step `at`, stops the run after it."""
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        if self.progress.step == at - 1:
            self.stop_reason = "SIGTERM"
        return original(self, group)

    with patch.object(Trainer, "step", step), pytest.raises(Interrupted) as caught:
        train(recipe, out=out, device="cpu", request=StopRequest(signal=15))
    assert caught.value.exit_code == 143
    assert progress(out).step == at


def refused(recipe: Recipe, run: Path, kind: type[SeqkitError], *words: str) -> None:
    """The recipe is turned away with all of these words, and what was saved stays as it was."""
    before = contents(run / "checkpoints")
    with pytest.raises(kind) as caught:
        train(recipe, out=run, device="cpu")
    assert [word for word in words if word not in str(caught.value)] == []
    assert contents(run / "checkpoints") == before


def toy_corpus(folder: Path) -> Path:
    """Sixty different pairs to train on, ten to validate on."""
    pairs = reverse(70, seed=1)
    for name, part in (("train", pairs[:60]), ("dev", pairs[60:])):
        rows = "".join(f"{source}\t{target}\n" for source, target in part)
        (folder / f"{name}.tsv").write_text(rows, encoding="utf-8")
    return folder


def toy_recipe(corpus: Path, *, model: dict[str, Any] | None = None, dev: bool = True, **settings: Any) -> Recipe:
    """A run over `toy_corpus`: seven steps an epoch, with dropout, accumulation and an average."""
    small = {"kind": "transformer", "width": 16, "heads": 2, "feed_forward": 16, "encoder_layers": 1}
    fixed = {
        "steps": 20,
        "batch_tokens": 40,
        "accumulate": 2,
        "schedule": {"kind": "inverse_square_root", "warmup": 20},
        "average": 0.9,
        "validate_every": 1000,
        "processes": 1,
        "precision": "float32",
        "output_precision": "float32",
        "keep_heap": False,
        "keep": 100,
    }
    return build(
        {
            "data": {"train": [str(corpus / "train.tsv")], "dev": [str(corpus / "dev.tsv")] if dev else []},
            "text": {"kind": "words", "split": "spaces"},
            "model": {**small, "decoder_layers": 1, "dropout": 0.1, **(model or {})},
            "train": {**fixed, **settings},
        },
        where="the test",
    )
