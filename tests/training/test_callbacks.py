"""Limits, validation, averaging and wishes to stop, around a real loop and by a clock of our own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import torch

from seqkit.settings import Constant, CosineDecay, LinearDecay, Schedule, Train
from seqkit.training.callbacks import Averaging, Limits, StopOnRequest, StopRequest, Validation, is_better
from seqkit.training.moving_average import Average
from seqkit.training.schedule import factor
from seqkit.training.trainer import Abandoned, Callback, Progress, Trainer, Update, ValidationReport
from tests.support.training import Notes, StopAt, ToyStream, report, toy_model, toy_trainer, weights


class Clock(Callback):
    """A second passes with every step."""

    def __init__(self, start: float = 100.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def stepped(self, trainer: Trainer, step: Update) -> None:
        self.now += 1.0


def scores(*values: float) -> Callable[[], ValidationReport]:
    """A validation with these scores, one after the other."""
    waiting: Iterator[float] = iter(values)
    return lambda: report(bleu=next(waiting))


def limited(
    settings: Train, *callbacks: Callback, stream: ToyStream | None = None, progress: Progress | None = None
) -> Progress:
    return toy_trainer(
        Limits(settings, began=0.0, clock=lambda: 0.0), *callbacks, stream=stream, progress=progress
    ).run()


def test_a_run_ends_at_its_number_of_steps() -> None:
    progress = limited(Train(steps=6))
    assert (progress.step, progress.stop, progress.horizon) == (6, "steps", 6)


def test_a_run_ends_with_its_last_epoch() -> None:
    progress = limited(Train(epochs=2), stream=ToyStream(size=3))
    assert (progress.step, progress.stop, progress.horizon) == (6, "epochs", 6)


@pytest.mark.parametrize(("steps", "epochs", "reason"), [(4, 2, "steps"), (9, 2, "epochs"), (6, 2, "steps")])
def test_the_first_limit_counts(steps: int, epochs: int, reason: str) -> None:
    progress = limited(Train(steps=steps, epochs=epochs), stream=ToyStream(size=3))
    assert (progress.step, progress.stop, progress.horizon) == (min(steps, 6), reason, min(steps, 6))


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_resumed_run_has_the_same_horizon(position: int) -> None:
    progress = limited(
        Train(epochs=4), stream=ToyStream(size=3), progress=Progress(step=3 + position, epoch=1, position=position)
    )
    assert (progress.step, progress.horizon) == (12, 12)


@pytest.mark.parametrize("schedule", [LinearDecay(warmup=0), CosineDecay(warmup=0)], ids=["linear", "cosine"])
def test_a_horizon_that_is_known_stays_where_epochs_differ_in_length(schedule: Schedule) -> None:
    """Where every epoch is encoded anew, what was read says nothing of how long the first was taken to be."""
    limits, notes = Limits(Train(epochs=3), began=0.0, clock=lambda: 0.0), Notes()
    stands = Progress(step=7, epoch=2, position=0, horizon=9)  # epochs of 3 and 4 steps so far
    progress = toy_trainer(limits, notes, stream=ToyStream(size=3), schedule=schedule, progress=stands).run()
    assert (progress.step, progress.horizon) == (10, 9)
    assert [step.rate for step in notes.steps] == pytest.approx([factor(schedule, s, horizon=9) for s in (7, 8, 9)])


def test_a_run_beyond_its_limits_makes_no_step() -> None:
    notes = Notes()
    assert limited(Train(steps=6), notes, progress=Progress(step=6)).stop == "steps"
    assert limited(Train(epochs=2), notes, progress=Progress(step=6, epoch=2)).stop == "epochs"
    assert limited(Train(epochs=2), notes, progress=Progress(step=8, epoch=1, position=4)).stop == "epochs"
    assert limited(Train(steps=0), notes).stop == "steps"
    assert "stepped" not in notes.moments


def test_a_run_limited_by_time_stops_before_its_time_is_over() -> None:
    clock = Clock(start=7.0)
    progress = toy_trainer(Limits(Train(minutes=1.0), began=0.0, clock=clock), clock).run()
    assert progress.stop == "minutes"
    assert 40 <= clock.now < 60  # start-up counts, and there is time to validate and to save


def test_earlier_attempts_count_against_the_minutes() -> None:
    clock = Clock(start=0.0)
    limits = Limits(Train(minutes=1.0), began=0.0, clock=clock)
    progress = toy_trainer(limits, clock, progress=Progress(seconds=40.0)).run()
    assert 5 <= progress.step < 20
    assert progress.seconds == pytest.approx(40 + progress.step - 1)


def test_the_rate_of_a_run_limited_by_time_reaches_zero() -> None:
    """The horizon is estimated at validations, from the pace so far, and nothing else moves it."""
    clock, notes = Clock(start=0.0), Notes()
    settings = Train(minutes=1.0, metric="bleu")
    validation = Validation(settings, every=10, validate=lambda: report(seconds=1.0))
    trainer = toy_trainer(
        Limits(settings, began=0.0, clock=clock), clock, validation, notes, schedule=LinearDecay(warmup=0)
    )
    progress = trainer.run()
    assert progress.stop == "minutes"
    assert progress.horizon is not None
    assert notes.steps[9].rate == 1.0  # no estimate yet
    assert notes.steps[10].rate < 1.0
    assert notes.steps[-1].rate == pytest.approx(1 / progress.horizon, abs=0.05)


def test_a_schedule_without_an_end_needs_no_horizon() -> None:
    clock = Clock(start=0.0)
    settings = Train(minutes=0.4, metric="bleu")
    validation = Validation(settings, every=10, validate=lambda: report())
    progress = toy_trainer(Limits(settings, began=0.0, clock=clock), clock, validation, schedule=Constant()).run()
    assert progress.horizon is None


def test_a_wish_from_outside_stops_after_the_next_step() -> None:
    request = StopRequest()

    class Signal(Callback):
        def stepped(self, trainer: Trainer, step: Update) -> None:
            if trainer.progress.step == 2:
                request.reason = "SIGINT"

    progress = toy_trainer(Signal(), StopOnRequest(request)).run()
    assert (progress.step, progress.stop) == (3, "SIGINT")


def test_patience_and_the_best_go_on_through_a_stop() -> None:
    """Scores 3, 5, 4, 4 | stop | 4, 4, 4 and a patience of 5: over after the seventh, the second is the best."""
    settings = Train(patience=5, metric="bleu")
    first = Validation(settings, every=1, validate=scores(3, 5, 4, 4))
    progress = toy_trainer(first, StopAt(4, "signal")).run()
    assert (progress.step, progress.best, progress.best_step, progress.stale) == (4, 5, 2, 2)
    progress.stop = None
    second = Validation(settings, every=1, validate=scores(4, 4, 4, 9))
    progress = toy_trainer(second, progress=progress).run()
    assert (progress.step, progress.stop) == (7, "patience")
    assert (progress.best, progress.best_step) == (5, 2)


@pytest.mark.parametrize(("metric", "values", "step"), [("bleu", (1, 2, 3, 4), 3), ("loss", (9, 2, 3, 1), 2)])
def test_a_target_ends_the_run_when_it_is_reached(metric: str, values: tuple[float, ...], step: int) -> None:
    waiting = iter(values)
    settings = Train(target=3.0, metric=metric)
    validation = Validation(settings, every=1, validate=lambda: report(bleu=(v := next(waiting)), loss=v))
    progress = toy_trainer(validation).run()
    assert (progress.step, progress.stop) == (step, "target")


def test_validation_comes_every_so_many_updates_and_at_the_end() -> None:
    notes = Notes()
    trainer = toy_trainer(StopAt(7), Validation(Train(metric="bleu"), every=3, validate=scores(1, 2, 3)), notes)
    trainer.run()
    assert "".join(moment[0] for moment in notes.moments) == "s" + "ss" + "vs" + "ss" + "vs" + "s" + "ve"
    assert [found.scores["bleu"] for found in notes.reports] == [1, 2, 3]


def test_the_last_validation_is_not_made_twice() -> None:
    notes = Notes()
    toy_trainer(Validation(Train(metric="bleu"), every=3, validate=scores(1, 2)), StopAt(6), notes).run()
    assert len(notes.reports) == 2


def test_an_interrupted_run_is_not_validated_at_its_stop() -> None:
    notes = Notes()
    toy_trainer(StopAt(4, "signal"), Validation(Train(metric="bleu"), every=3, validate=scores(1)), notes).run()
    assert len(notes.reports) == 1


def test_validation_happens_in_evaluation_mode_and_training_goes_on_in_training_mode() -> None:
    modes = []
    model = toy_model()

    def validate() -> ValidationReport:
        modes.append(model.training)
        return report()

    trainer = toy_trainer(Validation(Train(metric="bleu"), every=2, validate=validate), StopAt(2), model=model)
    trainer.run()
    assert modes == [False]
    assert model.training


def left_at(*calls: int) -> Callable[[], ValidationReport]:
    """A validation that is left at these calls, counted from 1."""
    made = [0]

    def validate() -> ValidationReport:
        made[0] += 1
        if made[0] in calls:
            raise Abandoned("SIGTERM")
        return report(bleu=float(made[0]))

    return validate


def test_a_run_stops_where_its_validation_was_left_and_the_next_attempt_begins_with_it() -> None:
    settings, first, second = Train(steps=7, metric="bleu", patience=9), Notes(), Notes()
    trainer = toy_trainer(Validation(settings, every=3, validate=left_at(2)), first)
    progress = trainer.run()
    assert (progress.step, progress.stop, progress.validated, progress.best) == (6, "SIGTERM", 3, 1.0)
    assert len(first.reports) == 1
    assert trainer.objective.training
    progress = replace(progress, stop=None)
    limits = Limits(settings, began=0.0, clock=lambda: 0.0)
    toy_trainer(limits, Validation(settings, every=3, validate=left_at()), second, progress=progress).run()
    assert second.moments == ["started", "validated", "stepped", "validated", "ended"]
    assert (progress.step, progress.stop, progress.validated) == (7, "steps", 7)


def test_the_last_validation_can_be_left_too_and_the_run_is_not_complete_without_it() -> None:
    settings = Train(steps=4, metric="bleu")

    def attempt(validate: Callable[[], ValidationReport], progress: Progress | None, notes: Notes) -> Progress:
        limits = Limits(settings, began=0.0, clock=lambda: 0.0)
        return toy_trainer(limits, Validation(settings, every=3, validate=validate), notes, progress=progress).run()

    progress = attempt(left_at(2), None, Notes())
    assert (progress.step, progress.stop, progress.validated) == (4, "SIGTERM", 3)
    progress, notes = replace(progress, stop=None), Notes()
    attempt(left_at(), progress, notes)
    assert notes.moments == ["started", "validated", "ended"]
    assert (progress.step, progress.stop, progress.validated) == (4, "steps", 4)


def test_who_is_to_stop_does_not_begin_a_validation() -> None:
    notes = Notes()
    progress = toy_trainer(
        StopAt(6, "signal"), Validation(Train(metric="bleu"), every=3, validate=left_at()), notes
    ).run()
    assert (progress.step, progress.validated, len(notes.reports)) == (6, 3, 1)


def test_patience_that_was_used_up_ends_a_run_whose_last_save_did_not_know_it() -> None:
    """As a crash leaves it, between the save of a validation and that of the end."""
    settings, notes = Train(patience=2, metric="bleu"), Notes()
    progress = Progress(step=6, validated=6, best=5.0, best_step=2, stale=2)
    toy_trainer(Validation(settings, every=2, validate=scores(9)), notes, progress=progress).run()
    assert notes.moments == ["started", "ended"]
    assert (progress.step, progress.stop) == (6, "patience")


def test_a_wish_that_comes_late_in_a_validation_stops_after_the_next_step() -> None:
    request = StopRequest()

    def validate() -> ValidationReport:
        request.reason = "SIGINT"
        return report()

    validation = Validation(Train(metric="bleu"), every=3, validate=validate)
    progress = toy_trainer(StopOnRequest(request), validation).run()
    assert (progress.step, progress.stop, progress.validated) == (4, "SIGINT", 3)


def test_a_validation_made_anew_says_nothing_of_the_pace() -> None:
    """No step of this attempt has been timed yet: taken for the pace, that would end the run on the spot."""
    clock = Clock(start=0.0)
    settings = Train(minutes=1.0, metric="bleu")
    callbacks = (Limits(settings, began=0.0, clock=clock), clock)
    validation = Validation(settings, every=10, validate=lambda: report())
    progress = Progress(step=10, seconds=10.0, horizon=50)
    toy_trainer(*callbacks, validation, StopAt(15, "signal"), schedule=LinearDecay(warmup=0), progress=progress).run()
    assert (progress.step, progress.stop, progress.horizon) == (15, "signal", 50)


def test_other_minutes_move_the_end_of_the_schedule_by_the_pace_so_far() -> None:
    told: list[tuple[str, Mapping[str, object]]] = []
    ended = Progress(step=40, seconds=50.0, horizon=40)
    for minutes, changed in ((2.0, True), (2.0, False)):
        clock = Clock(start=0.0)
        limits = Limits(
            Train(minutes=minutes), began=0.0, changed=changed, on_event=lambda *event: told.append(event), clock=clock
        )
        progress = toy_trainer(
            limits, clock, StopAt(60, "enough"), schedule=LinearDecay(warmup=0), progress=replace(ended)
        ).run()
        if changed:
            assert progress.horizon is not None
            assert 40 + 0.8 * 50 < progress.horizon < 40 + 0.8 * 70  # 0.8 steps a second, less what saving needs
            assert told == [("horizon", {"step": 40, "horizon": progress.horizon, "before": 40})]
        else:
            assert (progress.step, progress.horizon, len(told)) == (41, 40, 1)


@pytest.mark.parametrize(
    ("score", "best", "metric", "better"),
    [
        (1.0, None, "bleu", True),
        (1.0, 2.0, "ter", True),
        (2.0, 1.0, "bleu", True),
        (1.0, 1.0, "bleu", False),
        (0.5, 1.0, "loss", True),
        (1.0, 1.0, "loss", False),
        (math.nan, None, "loss", False),
        (math.inf, 1.0, "bleu", False),
        (9.0, math.nan, "loss", True),
    ],
)
def test_what_is_better(score: float, best: float | None, metric: str, better: bool) -> None:
    assert is_better(score, best, metric=metric) is better


def test_the_average_takes_in_every_update_and_no_skipped_step() -> None:
    model = toy_model()
    average = Average(model, 0.5)
    toy_trainer(Averaging(average), StopAt(3), model=model).run()
    assert average.updates == 3
    trainer = toy_trainer(model=model)
    Averaging(average).stepped(trainer, Update(report().tally, 1, 1.0, math.nan, updated=False))
    assert average.updates == 3
    means = torch.cat([average.tensors()[name].flatten() for name, _ in model.named_parameters()])
    assert not torch.equal(means, weights(trainer))
