"""What a run says of itself as it begins: to a person, and to its log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.runs.session import train
from seqkit.training.display.progress import Quiet
from tests.support.sessions import events, stopped, toy_recipe


class Shown(Quiet):
    """A display that keeps what it is told before the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def started(self, summary: Sequence[str]) -> None:
        self.lines = list(summary)

    def __getitem__(self, name: str) -> str:
        """What is said of one thing."""
        [line] = [line for line in self.lines if line.startswith(f"{name}: ")]
        return line.removeprefix(f"{name}: ")


def test_a_first_start_says_what_is_going_to_happen(corpus: Path) -> None:
    shown = Shown()
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu", display=shown)
    assert shown["data"].startswith("60 training pairs, ")
    assert shown["text"].startswith("Words, ")
    assert shown["text"].endswith(" tokens, joint")
    [start] = events(corpus / "run", "start")
    assert shown["model"] == f"transformer, {start['parameters']:,} parameters"
    assert shown["batches"] == "40 target tokens x 2, 7 steps an epoch"
    assert shown["device"].startswith("cpu, 1 threads a process, fp32")
    assert "free on the disk" in shown["memory"]
    assert not [line for line in shown.lines if line.startswith(("resuming", "changed"))]
    assert (start["step"], start["from"], start["changed"], start["world"]) == (0, None, {}, 1)
    assert (start["torch"], start["device"], start["threads"]) == (torch.__version__, "cpu", 1)


def test_a_later_start_says_where_it_goes_on_and_what_changed_since(corpus: Path) -> None:
    stopped(toy_recipe(corpus), corpus / "run", at=9)
    shown = Shown()
    train(toy_recipe(corpus, steps=22, log_seconds=7.0), out=corpus / "run", device="cpu", display=shown)
    assert shown.lines[0] == f"resuming {corpus / 'run'} at step 9 (epoch 2)"
    changes = [line for line in shown.lines if line.startswith("changed since: ")]
    assert changes == ["changed since: train.steps = 20 -> 22", "changed since: train.log_seconds = 30.0 -> 7.0"]
    [resume] = events(corpus / "run", "resume")
    assert (resume["step"], resume["from"]) == (9, "step-00000009")
    assert resume["changed"] == {"train.steps": [20, 22], "train.log_seconds": [30.0, 7.0]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"precision": "bfloat16"}, "bf16"),
        ({"output_precision": "bfloat16"}, "fp32, bf16 output"),
        ({"precision": "tf32"}, "fp32"),  # only a GPU rounds float32
    ],
)
def test_the_arithmetic_is_said(corpus: Path, settings: dict[str, Any], words: str) -> None:
    shown = Shown()
    train(toy_recipe(corpus, steps=0, **settings), out=corpus / "run", device="cpu", display=shown)
    assert shown["device"] == f"cpu, 1 threads a process, {words}"
