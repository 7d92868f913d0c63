"""Small runs on a GPU: recipes, and what a run has written down."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from seqkit.config import build
from seqkit.settings import Recipe

__all__ = ["SMALL", "Dev", "dev_of", "recipe_of", "words"]

SMALL = {"width": 64, "heads": 4, "feed_forward": 128, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.1}
LETTERS = "abcdefgh"


class Dev(msgspec.Struct, frozen=True):
    """A validation as the run's log has it."""

    step: int
    loss: float


def words(count: int, *, seed: int) -> list[str]:
    """Rows of spaced letters, all different."""
    random = Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(random.choices(LETTERS, k=random.randint(2, 9)))] = None
    return list(found)


def recipe_of(folder: Path, *, model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """Learning to reverse rows of letters; 60 steps unless told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 3000, 1), ("dev", 200, 2)):
        rows = "".join(f"{row}\t{' '.join(reversed(row.split()))}\n" for row in words(count, seed=seed))
        (folder / f"{name}.tsv").write_text(rows, encoding="utf-8")
    usual = {
        "steps": 60,
        "batch_tokens": 2000,
        "learning_rate": 3e-3,
        "schedule": {"kind": "linear", "warmup": 10},
        "validate_every": 20,
        "metric": "loss",
    }
    tree = {
        "name": "reverse",
        "data": {"train": [str(folder / "train.tsv")], "dev": [str(folder / "dev.tsv")], "source": "a", "target": "b"},
        "text": {"kind": "words", "split": "spaces"},
        "model": {"kind": "transformer", **SMALL} if model is None else model,
        "train": {**usual, **train},
    }
    return build(tree, where="the test")


def dev_of(run: Path) -> list[Dev]:
    """All validations of a run, in order."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Dev(row["step"], row["loss"]) for row in rows if row["event"] == "valid"]
