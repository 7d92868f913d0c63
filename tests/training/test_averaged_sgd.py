"""Averaged SGD: plain steps, and their mean from the validation on that shows no more progress; also over a resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from seqkit.errors import ModelError
from seqkit.settings import SGD, AveragedSGD, Train
from seqkit.storage import checkpoint
from seqkit.training.averaged_sgd import AveragingTrigger, stopped_improving
from seqkit.training.callbacks import Averaging, StopRequest, Validation
from seqkit.training.moving_average import Average
from seqkit.training.saving import Saving, restore
from seqkit.training.trainer import Callback, Progress, Trainer, Update, ValidationReport
from tests.support.training import Notes, StopAt, numbers, report, toy_model, toy_trainer, weights

SETTINGS = Train(metric="bleu", save_every=1000)
SCORES = [3.0, 5.0, 4.0, 6.0, 4.5, 9.0, 9.5, 9.0, 9.0]  # the fifth is worse than the second, three before it


@pytest.mark.parametrize(
    ("scores", "patience", "metric", "stopped"),
    [
        ([1.0], 1, "bleu", False),
        ([2.0, 1.0], 1, "bleu", True),
        ([2.0, 2.0], 1, "bleu", False),
        ([2.0, 1.0], 1, "loss", False),
        ([1.0, 2.0], 1, "loss", True),
        ([1.0, 9.0, 3.0], 2, "bleu", False),
        ([4.0, 9.0, 3.0], 2, "bleu", True),
        ([4.0, 9.0, 3.0], 3, "bleu", False),
        ([4.0, 1.0, 5.0], 1, "bleu", False),
        ([1.0, 2.0, None], 2, "bleu", True),
        ([None, None, None], 1, "loss", False),
        ([None, 3.0, 4.0], 2, "loss", False),
    ],
)
def test_a_score_is_held_against_those_of_long_enough_ago(
    scores: list[float | None], patience: int, metric: str, stopped: bool
) -> None:
    assert stopped_improving(scores, patience=patience, metric=metric) is stopped


def test_an_average_without_decay_is_the_mean_of_all_weights_since_it_began() -> None:
    model = nn.Linear(1, 1, bias=False).double()
    average, seen = Average(model, None), []
    for step in range(20):
        with torch.no_grad():
            model.weight.normal_()
        average.update()
        if step == 7:
            average.begin()
        if average.begun:
            seen.append(model.weight.item())
    assert len(seen) == 13
    assert float(average.tensors()["weight"]) == pytest.approx(sum(seen) / len(seen))


def test_before_the_beginning_the_weights_speak_for_themselves() -> None:
    model = toy_model()
    average = Average(model, None)
    average.update()
    assert not average.begun
    assert average.updates == 0
    assert average.tensors() == {}
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with average.applied():
        torch.testing.assert_close(dict(model.named_parameters()), before, rtol=0, atol=0)
    assert Average(model, 0.9).begun


class Iterates(Callback):
    """Keeps the weights of every step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def stepped(self, trainer: Trainer, step: Update) -> None:
        self.weights.append(weights(trainer))


def validations(average: Average, model: nn.Module) -> tuple[Callable[[], ValidationReport], list[Tensor]]:
    """SCORES one after the other by the number of the call, and the weights that were scored."""
    scored: list[Tensor] = []

    def validate() -> ValidationReport:
        with average.applied():
            scored.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        return report(bleu=SCORES[len(scored) - 1])

    return validate, scored


def test_plain_steps_are_made_throughout_and_their_mean_is_scored_from_the_trigger_on() -> None:
    model = toy_model()
    average, iterates = Average(model, None), Iterates()
    validate, scored = validations(average, model)
    toy_trainer(
        Averaging(average),
        AveragingTrigger(average, patience=3, metric="bleu"),
        iterates,
        Validation(SETTINGS, every=2, validate=validate),
        StopAt(16),
        model=model,
        optimizer=AveragedSGD(weight_decay=0.1),
    ).run()

    plain = Iterates()
    toy_trainer(plain, StopAt(16), model=toy_model(), optimizer=SGD(weight_decay=0.1)).run()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(iterates.weights, plain.weights, strict=True))

    for index, found in enumerate(scored):
        step = 2 * (index + 1)
        # The fifth validation, at step 10, begins the mean with the weights that it scored.
        expected = plain.weights[step - 1] if step <= 10 else torch.stack(plain.weights[9:step]).mean(0)
        torch.testing.assert_close(found, expected)
    assert average.updates == 6


def test_scores_are_no_longer_kept_once_averaging_began() -> None:
    average = Average(toy_model(), None)
    trigger, trainer = AveragingTrigger(average, patience=3, metric="bleu"), toy_trainer()
    for score in [3.0, math.nan, *SCORES[2:]]:
        trigger.validated(trainer, report(bleu=score))
    assert trainer.progress.scores == [3.0, None, 4.0, 6.0, 4.5, 9.0, 9.5, 9.0, 9.0]
    trigger.validated(trainer, report(bleu=1.0))
    assert average.begun
    trigger.validated(trainer, report(bleu=1.0))
    assert len(trainer.progress.scores) == 10


class Attempt:
    """A run of a small model with dropout into a folder, taking up what is there."""

    def __init__(self, folder: Path, *, stop: int) -> None:
        model = toy_model(dropout=0.3)
        self.average, self.notes = Average(model, None), Notes()
        self.trainer = toy_trainer(
            Averaging(self.average),
            StopAt(stop, "signal"),
            AveragingTrigger(self.average, patience=3, metric="bleu"),
            # A score is a function of the step, as it is of the weights in earnest.
            Validation(SETTINGS, every=2, validate=lambda: report(bleu=SCORES[self.trainer.progress.step // 2 - 1])),
            Saving(
                SETTINGS,
                folder=folder,
                codec="codec",
                facts={},
                average=self.average,
                request=StopRequest(),
                on_event=lambda event, fields: None,
            ),
            self.notes,
            model=model,
            optimizer=AveragedSGD(),
        )
        found, _ = checkpoint.newest(folder)
        if found is not None:
            self.trainer.progress = restore(
                found, model=model, optimizers=self.trainer.optimizers, average=self.average
            )
            self.trainer.progress.stop = None
        self.trainer.run()


@pytest.mark.parametrize("stop", [5, 10, 14, *(pytest.param(step, marks=pytest.mark.slow) for step in (9, 11))])
def test_a_run_stopped_before_at_or_after_the_trigger_goes_on_bit_for_bit(stop: int, tmp_path: Path) -> None:
    straight = Attempt(tmp_path / "straight", stop=17)
    first = Attempt(tmp_path / "stopped", stop=stop)
    second = Attempt(tmp_path / "stopped", stop=17)
    assert first.average.begun == (stop > 10)  # whoever stops at 10 leaves the validation to the next attempt
    assert straight.average.updates == second.average.updates == 7
    assert numbers(first.notes) + numbers(second.notes) == numbers(straight.notes)
    assert torch.equal(weights(second.trainer), weights(straight.trainer))
    torch.testing.assert_close(second.average.tensors(), straight.average.tensors(), rtol=0, atol=0)
    assert second.trainer.progress == straight.trainer.progress


def test_what_is_published_is_the_mean_where_there_is_one(tmp_path: Path) -> None:
    """The tensors named "average" are what `model/` is written from, where a checkpoint has them."""
    Attempt(tmp_path / "before", stop=9)
    Attempt(tmp_path / "after", stop=12)
    stems = []
    for name in ("before", "after"):
        found, _ = checkpoint.newest(tmp_path / name)
        assert found is not None
        stems.append("average" in found.stems)
    assert stems == [False, True]


def test_an_exponential_average_that_is_missing_is_still_an_error(tmp_path: Path) -> None:
    Attempt(tmp_path, stop=5)
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    model = toy_model(dropout=0.3)
    trainer = toy_trainer(model=model, optimizer=AveragedSGD())
    with pytest.raises(ModelError, match="average"):
        restore(found, model=model, optimizers=trainer.optimizers, average=Average(model, 0.9))
    assert isinstance(restore(found, model=model, optimizers=trainer.optimizers, average=None), Progress)
