"""How every kind of data is validated: with averaged weights, in evaluation mode, and left when that is wished."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from seqkit.parallel.processes import Processes
from seqkit.system.device import CPU
from seqkit.tasks.task import Scores, ValidationContext, Validator
from seqkit.training.trainer import Abandoned

PIECES = 3


class Weights:
    """Stands in for averaged weights: a bias of 7."""

    def __init__(self, model: nn.Linear) -> None:
        self.model = model

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        kept = self.model.bias.detach().clone()
        nn.init.constant_(self.model.bias, 7.0)
        yield
        self.model.bias.data.copy_(kept)


class ToyValidator(Validator):
    """Its loss is the model's bias; it notes the mode, and whether gradients are made."""

    def __init__(self, model: nn.Linear, place: ValidationContext, average: Weights | None = None) -> None:
        super().__init__(model, place, average)
        self.linear = model
        self.noted: list[tuple[bool, bool]] = []

    def loss(self, piece_done: Callable[[], object]) -> torch.Tensor:
        self.noted.append((self.linear.training, torch.is_grad_enabled()))
        for _ in range(PIECES):
            piece_done()
        return torch.tensor([0.0, 2 * float(self.linear.bias.detach()), 2.0], dtype=torch.float64)

    def scores(self) -> Scores:
        return Scores({"bleu": float(self.linear.bias.detach())}, "signed", [("a", "b", "c")])


def linear() -> nn.Linear:
    model = nn.Linear(1, 1)
    nn.init.constant_(model.bias, 3.0)
    return model


@pytest.mark.parametrize("training", [True, False])
def test_it_is_made_in_evaluation_mode_without_gradients_and_the_mode_comes_back(training: bool) -> None:
    model = linear().train(training)
    validator = ToyValidator(model, ValidationContext(Processes(), CPU))
    report = validator()
    assert validator.noted == [(False, False)]
    assert model.training is training
    assert report.tally.loss == 3.0
    assert report.scores == {"loss": 3.0, "bleu": 3.0}
    assert (report.signature, report.samples) == ("signed", [("a", "b", "c")])
    assert report.seconds >= 0


def test_averaged_weights_are_what_is_scored_and_the_model_s_own_come_back() -> None:
    model = linear()
    report = ToyValidator(model, ValidationContext(Processes(), CPU), Weights(model))()
    assert report.scores == {"loss": 7.0, "bleu": 7.0}
    assert float(model.bias.detach()) == 3.0


@pytest.mark.parametrize("calls", [1, 2, PIECES + 1])
def test_it_is_left_between_two_pieces_when_that_is_wished(calls: int) -> None:
    """A process is asked before the first piece and after each."""
    asked = [0]

    def reason() -> str | None:
        asked[0] += 1
        return "SIGTERM" if asked[0] >= calls else None

    model = linear().train()
    with pytest.raises(Abandoned, match="SIGTERM"):
        ToyValidator(model, ValidationContext(Processes(), CPU, reason))()
    assert asked == [calls]
    assert model.training
