"""Ensembles: different members have the mean of their probabilities. (Copies of a model are the model: tests/laws.)"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqkit.models.ensemble import Ensemble
from tests.support.models import MODELS, close, logits, make, sources, tokens


def test_an_ensemble_averages_probabilities() -> None:
    members = [
        make(MODELS[name], seed=seed) for seed, name in enumerate(("transformer-pre", "plain-lstm", "gru-dot-deep"))
    ]
    source, ids = sources(5, 2), tokens(2, 5)
    with torch.no_grad():
        found = logits(Ensemble(members, weights=[2, 1, 1]), source, ids, 3)
        each: list[Tensor] = [logits(member, source, ids).softmax(-1) for member in members]
    close(found.exp(), 0.5 * each[0] + 0.25 * each[1] + 0.25 * each[2])
    close(found.exp().sum(-1), torch.ones(2, 5, dtype=torch.float64))
    for weights in ([1.0], [1.0, 2.0, 3.0, 4.0]):
        with pytest.raises(ValueError, match="weights"):
            Ensemble(members, weights=weights)
    assert math.isclose(sum(math.exp(value) for value in Ensemble(members).log_weights), 1.0)
