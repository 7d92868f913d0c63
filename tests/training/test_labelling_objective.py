"""What a labeller is trained on: the cross-entropy of its labels, and nothing at ends and padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seqkit.data.loading import label_batch, line_batch, translation_batch
from seqkit.errors import DataError
from seqkit.system.device import CPU
from tests.support.labelling import (
    TRAIN,
    prepared_labelling,
)


def test_the_objective_is_the_cross_entropy_of_the_labels(tmp_path: Path) -> None:
    exact = ("train.precision=float32", "train.output_precision=float32")
    task, model = prepared_labelling(tmp_path, "train.label_smoothing=0.5", *exact)
    objective = task.objective(model, CPU)
    batch = label_batch(task.tokens, task.labels, np.array([3, 1, 2]))
    assert batch.source is not None
    tally, state = objective(batch)
    wanted = batch.targets.ids.masked_fill(~batch.targets.mask, -100).flatten()
    for found, smoothing in ((tally.objective, 0.5), (tally.nll, 0.0)):
        logits = model(batch.source).flatten(0, 1)
        expected = F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert int(tally.tokens) == sum(len(TRAIN.tokens[i]) for i in (3, 1, 2))
    assert state is None
    tally.objective.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for make in (line_batch, translation_batch):
        with pytest.raises(DataError, match="not labels"):
            objective(make(task.tokens, task.tokens, np.array([0])))
