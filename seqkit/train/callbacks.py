"""What happens around the training loop: limits, validation, the moving average, a wish to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from seqkit.settings import Train
from seqkit.train.average import Average
from seqkit.train.schedule import needs_horizon
from seqkit.train.trainer import Callback, Report, Step, Trainer

__all__ = ["FINAL", "Averaging", "Interruption", "Limits", "StopRequest", "Validation", "is_better"]

FINAL = ("steps", "epochs", "minutes", "patience", "target")  # reasons after which a run is complete


@dataclass
class StopRequest:
    """A wish to stop, or to save and go on, set from outside (a signal handler, another thread).

    It is heeded after the next step.
    """

    reason: str | None = None
    signal: int | None = None
    save: bool = False


class Interruption(Callback):
    """Hands a wish from outside to the trainer."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Wish to stop after the next step."""
        trainer.wish = trainer.wish or self.request.reason


class Limits(Callback):
    """Ends the run at its number of steps, epochs or minutes, and says when the schedule must have reached zero.

    A run limited by time has no known last step. Its horizon is estimated from the pace so far, only at validations, by
    the first process for all; so the rate is a function of steps and of a short list of recorded horizons.
    """

    def __init__(self, settings: Train, *, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`began`: when the run's process started, on `clock`, in seconds."""
        self.settings = settings
        self.origin = began
        self.clock = clock
        self.earlier = 0.0
        self.loop_began = 0.0
        self.first_step = 0
        # Seconds that the last validation and save will need; a guess until a validation was timed.
        self.reserve = 0.0 if settings.minutes is None else min(15.0, 6.0 * settings.minutes)

    def started(self, trainer: Trainer) -> None:
        """Set a known horizon; a run that has reached its limit already stops at once."""
        progress, settings = trainer.progress, self.settings
        self.earlier, self.loop_began, self.first_step = progress.seconds, self.clock(), progress.step
        known = [] if settings.steps is None else [settings.steps]
        if settings.epochs is not None:
            ahead = range(progress.epoch, settings.epochs)
            known.append(progress.step - progress.position + sum(trainer.stream.count(0) for _ in ahead))
        if known and settings.minutes is None:
            progress.horizon = min(known)
        if settings.steps is not None and progress.step >= settings.steps:
            progress.stop = "steps"
        behind = progress.epoch + (progress.position >= trainer.stream.count(progress.epoch))
        if settings.epochs is not None and behind >= settings.epochs:
            progress.stop = "epochs"

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Stop at a limit: by count everywhere alike, by the clock as a wish of the first process."""
        progress, settings = trainer.progress, self.settings
        progress.seconds = self.elapsed()
        if settings.steps is not None and progress.step >= settings.steps:
            progress.stop = progress.stop or "steps"
        if settings.epochs is not None and progress.epoch + 1 >= settings.epochs:
            last = trainer.stream.count(progress.epoch)
            progress.stop = progress.stop or ("epochs" if progress.position >= last else None)
        if settings.minutes is not None:
            if progress.horizon is not None and progress.step >= progress.horizon:
                progress.stop = progress.stop or "minutes"
            if trainer.processes.first and self.elapsed() + self.reserve >= settings.minutes * 60:
                trainer.wish = trainer.wish or "minutes"

    def validated(self, trainer: Trainer, report: Report) -> None:
        """Estimate the horizon anew from the pace so far."""
        if self.settings.minutes is None:
            return
        progress = trainer.progress
        self.reserve = 1.5 * report.seconds + 2.0
        steps, seconds = progress.step - self.first_step, self.clock() - self.loop_began
        remaining = max(0.0, self.settings.minutes * 60 - self.elapsed() - self.reserve)
        estimate = progress.step + math.floor(remaining * steps / max(seconds, 1e-9))
        if self.settings.steps is not None:
            estimate = min(estimate, self.settings.steps)
        estimate = int(trainer.processes.broadcast(estimate))
        if needs_horizon(trainer.schedule):
            progress.horizon = estimate

    def elapsed(self) -> float:
        """Seconds of wall time that the run has had, earlier attempts included."""
        return self.earlier + self.clock() - self.origin


class Averaging(Callback):
    """Keeps the moving average of the weights up to date."""

    def __init__(self, average: Average) -> None:
        self.average = average

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Take the new weights into the average."""
        if step.updated:
            self.average.update()


class Validation(Callback):
    """Scores the development set every so many steps and at the end; keeps the best, and stops when told to."""

    def __init__(self, settings: Train, *, every: int, validate: Callable[[], Report]) -> None:
        self.settings = settings
        self.every = every
        self.validate = validate

    def stepped(self, trainer: Trainer, step: Step) -> None:
        """Validate when it is time."""
        if step.updated and trainer.progress.step % self.every == 0:
            self._run(trainer)

    def ended(self, trainer: Trainer) -> None:
        """Validate the final weights, unless the run was interrupted."""
        if trainer.progress.stop in FINAL and trainer.progress.step != trainer.progress.validated:
            self._run(trainer)

    def _run(self, trainer: Trainer) -> None:
        progress, settings = trainer.progress, self.settings
        trainer.objective.eval()
        report = self.validate()
        trainer.objective.train()
        progress.validated = progress.step
        score = report.scores[settings.metric]
        if is_better(score, progress.best, metric=settings.metric):
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
        else:
            progress.stale += 1
        # Decided before anyone is told: what is saved now must know it, or a run that dies here would go on too long.
        if settings.patience is not None and progress.stale >= settings.patience:
            progress.stop = progress.stop or "patience"
        if settings.target is not None and not is_better(settings.target, score, metric=settings.metric):
            progress.stop = progress.stop or "target"
        trainer.validated(report)


def is_better(score: float, best: float | None, *, metric: str) -> bool:
    """Whether a score improves on the best; what is not a finite number never does, and loses to any that is."""
    if not math.isfinite(score):
        return False
    if best is None or not math.isfinite(best):
        return True
    return score < best if metric == "loss" else score > best
