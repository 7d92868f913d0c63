"""A small corpus to train on, and what the steps of its runs saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Trainer, Update
from tests.support.sessions import Seen, toy_corpus


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every step of every run of the test, as it happened."""
    steps: list[Seen] = []
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        made = original(self, group)
        pairs = [tuple(row.tolist()) for batch in group.batches for row in paired(batch)]
        steps.append(Seen(made.tally.loss, made.rate, made.norm, pairs))
        return made

    monkeypatch.setattr(Trainer, "step", step)
    return steps


def paired(batch: Batch) -> Iterator[Tensor]:
    """Each row's real tokens, one side after the other."""
    assert batch.source is not None
    for left, right in zip(batch.source.ids, batch.targets.ids, strict=True):
        yield torch.cat([left[left > 0], right[right > 0]])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The pairs of `toy_corpus`."""
    return toy_corpus(tmp_path)
