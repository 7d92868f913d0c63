"""Every kind of model learns to copy, to reverse and to sort, from files to translations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from seqkit.config import build
from seqkit.inference.translator import Translator
from seqkit.models import decoders, encoders
from seqkit.runs.session import train

pytestmark = pytest.mark.slow

TASKS: dict[str, Callable[[str], str]] = {
    "copy": lambda digits: digits,
    "reverse": lambda digits: digits[::-1],
    "sort": lambda digits: "".join(sorted(digits)),
}
TRANSFORMER = {"kind": "transformer", "heads": 4, "feed_forward": 128, "encoder_layers": 2, "decoder_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "transformer": TRANSFORMER,
    "transformer-rotary": {**TRANSFORMER, "positions": "rotary", "norm": "post", "activation": "swiglu"},
    "gru": {"kind": "recurrent", "embedding": 64},
    "lstm-feeding": {"kind": "recurrent", "embedding": 64, "cell": "lstm", "attention": "dot", "input_feeding": True},
    "plain": {"kind": "plain", "embedding": 64, "width": 128},
    "mixed": {"kind": "mixed", "heads": 4, "feed_forward": 128, "encoder_layers": 2},
}
STEPS = {"transformer": 1200, "transformer-rotary": 1200, "plain": 1500}


def strings(count: int, *, longest: int, seed: int) -> list[str]:
    random = Random(seed)
    return ["".join(random.choices("0123456789", k=random.randint(1, longest))) for _ in range(count)]


def score(kind: str, task: str, folder: Path) -> float:
    """The share of unseen strings that come out right."""
    longest = 5 if kind == "plain" else 9  # a single vector holds only so much
    known = strings(4000, longest=longest, seed=1)
    unseen = [digits for digits in strings(400, longest=longest, seed=2) if digits not in set(known)][:100]
    rows = "".join(f"{digits}\t{TASKS[task](digits)}\n" for digits in known)
    (folder / "train.tsv").write_text(rows, encoding="utf-8")
    recipe = build(
        {
            "data": {"train": [str(folder / "train.tsv")]},
            "text": {"kind": "characters"},
            "model": {"width": 64, "dropout": 0.0, **KINDS[kind]},
            "train": {
                "steps": STEPS.get(kind, 800),
                "batch_tokens": 512,
                "learning_rate": 2e-3,
                "schedule": {"kind": "linear", "warmup": 100},
                "label_smoothing": 0.0,
                "processes": 1,
                "keep_heap": False,
            },
            "search": {"beam": 1},
        },
        where="the test",
    )
    train(recipe, out=folder / "run", device="cpu")
    translator = Translator.load(folder / "run", device="cpu")
    found = [translation.text for translation in translator.translate(unseen)]
    return sum(text == TASKS[task](digits) for text, digits in zip(found, unseen, strict=True)) / len(unseen)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_is_learnt(kind: str, task: str, tmp_path: Path) -> None:
    assert score(kind, task, tmp_path) >= 0.95


class Nowhere(nn.Module):
    """Tells no places."""

    def forward(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        return x


def test_without_positions_nothing_can_be_reversed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (encoders, decoders):
        monkeypatch.setattr(module, "positions", lambda settings: Nowhere())
    assert score("transformer", "reverse", tmp_path) < 0.2
