"""What is minimised: one reading of a batch, or two that must agree."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch, Padded
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.models.build import Sizes, build
from seqkit.settings import Model, Recurrent, RecurrentLanguageModel, Transformer
from seqkit.state import tensors_of
from seqkit.training.objective import Objective

TRANSLATORS: list[Model] = [
    Transformer(width=8, heads=2, feed_forward=12, encoder_layers=1, decoder_layers=2, dropout=0.0),
    Recurrent(width=8, embedding=6, dropout=0.0),
]


def batch() -> Batch:
    sides = [Encoded.from_lists([range(3, 3 + n) for n in lengths]) for lengths in ((2, 5, 3), (4, 1, 6))]
    return translation_batch(sides[0], sides[1], np.arange(3))


def objective(settings: Model, *, r_drop: float) -> Objective:
    torch.manual_seed(0)
    model = build(settings, Sizes(12, 12, joint=True)).double()
    return Objective(model, smoothing=0.1, r_drop=r_drop)


def found(objective: Objective, batch: Batch, *, seed: int = 1) -> tuple[float, list[Tensor]]:
    torch.manual_seed(seed)
    objective.zero_grad()
    tally, _ = objective(batch)
    if torch.is_grad_enabled():
        tally.objective.backward()
    return float(tally.objective.detach()), [p.grad.clone() for p in objective.parameters() if p.grad is not None]


@pytest.mark.parametrize("settings", TRANSLATORS)
def test_without_dropout_two_readings_are_one(settings: Model) -> None:
    (once, slopes), (twice, slopes_twice) = (
        found(objective(settings, r_drop=weight), batch()) for weight in (0.0, 5.0)
    )
    assert twice == pytest.approx(once, rel=1e-12)
    torch.testing.assert_close(slopes_twice, slopes, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", TRANSLATORS)
def test_the_two_readings_have_dropout_of_their_own(settings: Model) -> None:
    dropping = msgspec.structs.replace(settings, dropout=0.3)
    little, much = (found(objective(dropping, r_drop=weight), batch())[0] for weight in (1e-9, 5.0))
    assert much > little + 0.01  # what they disagree by; with the same dropout it would be nothing


def test_outside_of_training_a_batch_is_read_once() -> None:
    settings = Transformer(width=8, heads=2, feed_forward=12, encoder_layers=1, decoder_layers=1, dropout=0.3)
    with torch.no_grad():
        plain, agreeing = (found(objective(settings, r_drop=weight).eval(), batch())[0] for weight in (0.0, 5.0))
    assert plain == agreeing


def test_a_language_model_goes_on_from_the_first_reading() -> None:
    settings = RecurrentLanguageModel(width=6, embedding=6, hidden_dropout=0.0, activation_penalty=2.0)
    ids = torch.randint(3, 12, (3, 8))
    windows = [Batch(None, part, Padded(part, part > 0), continues=True) for part in torch.split(ids, 4, dim=1)]
    ends = []
    for weight in (0.0, 5.0):
        own, state = objective(settings, r_drop=weight), None
        for window in windows:
            tally, state = own(window, state)
        ends.append((tally.objective.detach(), *tensors_of(state)))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-9)
    assert len(ends[1][1]) == 3
