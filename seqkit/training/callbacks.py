"""What happens around the training loop: limits, validation, the moving average, requests to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqkit.metrics.table import METRICS
from seqkit.settings import Train
from seqkit.storage.lock import RunLock
from seqkit.training.moving_average import Average
from seqkit.training.schedule import needs_horizon
from seqkit.training.trainer import Abandoned, Callback, Progress, Trainer, Update, ValidationReport

__all__ = [
    "FINAL",
    "Averaging",
    "Limits",
    "LockGuard",
    "StopOnRequest",
    "StopRequest",
    "Validation",
    "is_better",
    "reached",
]

FINAL = ("steps", "epochs", "minutes", "patience", "target")  # reasons after which a run is complete


@dataclass
class StopRequest:
    """A request to stop, or to save and go on, set from outside (a signal handler, another thread).

    It is heeded after the next step, and between the batches of a validation.
    """

    reason: str | None = None
    signal: int | None = None
    save: bool = False


class StopOnRequest(Callback):
    """Passes a request from outside on to the trainer."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Have the run stop after the next step, if that was requested."""
        trainer.stop_reason = trainer.stop_reason or self.request.reason

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Have the run stop if the request came too late to leave the validation."""
        trainer.stop_reason = trainer.stop_reason or self.request.reason


class LockGuard(Callback):
    """Ends a training whose folder another has taken over before it writes anything more."""

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Raise BusyError if the folder was taken over."""
        self.lock.check()

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Raise BusyError if the folder was taken over during a long validation."""
        self.lock.check()

    def ended(self, trainer: Trainer) -> None:
        """Raise BusyError if the folder was taken over before the last save."""
        self.lock.check()


class Limits(Callback):
    """Ends the run at its number of steps, epochs or minutes, and says when the schedule must have reached zero.

    A run limited by time has no known last step. Its horizon is estimated from the pace so far, only at validations, by
    the first process for all; so the rate is a function of steps and of a short list of recorded horizons. A horizon
    that was known when the run was stopped stays what it was, unless the limits are others now.
    """

    def __init__(
        self,
        settings: Train,
        *,
        began: float,
        changed: bool = False,
        on_event: Callable[[str, Mapping[str, object]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`began`: when the run's process started, on `clock`, in seconds; `changed`: the last checkpoint was written
        under other limits; `on_event` hears of a horizon that changed with them."""
        self.settings = settings
        self.changed = changed
        self.on_event = on_event
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
        before, falls = progress.horizon, needs_horizon(trainer.schedule)
        if self.changed or before is None or not falls:
            progress.horizon = self._horizon(trainer)
        if falls and self.changed and self.on_event is not None and progress.horizon != before:
            self.on_event("horizon", {"step": progress.step, "horizon": progress.horizon, "before": before})
        if settings.steps is not None and progress.step >= settings.steps:
            progress.stop = "steps"
        behind = progress.epoch + (progress.position >= trainer.stream.count(progress.epoch))
        if settings.epochs is not None and behind >= settings.epochs:
            progress.stop = "epochs"

    def _horizon(self, trainer: Trainer) -> int | None:
        """The last step as far as it is known now."""
        progress, settings = trainer.progress, self.settings
        known = [] if settings.steps is None else [settings.steps]
        if settings.minutes is not None:
            if not self.changed or not needs_horizon(trainer.schedule) or not progress.seconds:
                return None  # it is estimated at the first validation
            remaining = max(0.0, settings.minutes * 60 - self.elapsed() - self.reserve)
            pace = progress.step / progress.seconds  # of the earlier attempts, start-up and validation included
            return min([*known, int(trainer.processes.broadcast(progress.step + math.floor(remaining * pace)))])
        if settings.epochs is not None:
            ahead = range(progress.epoch, settings.epochs)
            known.append(progress.step - progress.position + sum(trainer.stream.count(0) for _ in ahead))
        return min(known) if known else None

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Stop at a limit: by count on every process alike, by the clock at the first process's request."""
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
                trainer.stop_reason = trainer.stop_reason or "minutes"

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Estimate the horizon again, from the pace so far."""
        if self.settings.minutes is None:
            return
        progress = trainer.progress
        self.reserve = 1.5 * report.seconds + 2.0
        steps, seconds = progress.step - self.first_step, self.clock() - self.loop_began
        if not steps:  # a validation that an earlier attempt left says nothing of the pace
            return
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

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Take the new weights into the average."""
        if step.updated:
            self.average.update()


class Validation(Callback):
    """Scores the development set every so many steps and at the end, and stops at the target or when patience ends.

    A run that is asked to stop leaves a validation before its end, or does not begin it. It then stands at that very
    step, and the attempt that goes on makes the validation first.
    """

    def __init__(self, settings: Train, *, every: int, validate: Callable[[], ValidationReport]) -> None:
        self.settings = settings
        self.every = every
        self.validate = validate

    def ready(self, trainer: Trainer) -> None:
        """Make the validation that the last attempt left, or decide by the last one whether to stop."""
        if self._due(trainer.progress):
            self._run(trainer)
        else:
            self._judge(trainer.progress)

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Validate when it is time."""
        interrupted = trainer.progress.stop is not None and trainer.progress.stop not in FINAL
        if step.updated and self._due(trainer.progress) and not interrupted:
            self._run(trainer)

    def ended(self, trainer: Trainer) -> None:
        """Validate the final weights, unless the run was interrupted."""
        progress = trainer.progress
        if progress.stop in FINAL and progress.validated != progress.step:
            self._run(trainer)

    def _due(self, progress: Progress) -> bool:
        return progress.step > 0 and progress.step % self.every == 0 and progress.validated != progress.step

    def _run(self, trainer: Trainer) -> None:
        progress = trainer.progress
        trainer.objective.eval()
        try:
            report = self.validate()
        except Abandoned as abandoned:
            progress.stop = abandoned.reason
            return
        finally:
            trainer.objective.train()
        progress.validated = progress.step
        score = report.scores[self.settings.metric]
        if is_better(score, progress.best, metric=self.settings.metric):
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
        else:
            progress.stale += 1
        # Decided before callbacks are called: what they save must include it, or a run that dies here goes on too long.
        self._judge(progress)
        trainer.validated(report)

    def _judge(self, progress: Progress) -> None:
        """Stop where patience has ended, or the target is reached."""
        settings = self.settings
        if settings.patience is not None and progress.stale >= settings.patience:
            progress.stop = progress.stop or "patience"
        if reached(settings, progress.best):
            progress.stop = progress.stop or "target"


def reached(settings: Train, best: float | None) -> bool:
    """Whether the best score is as good as `train.target` asks."""
    if settings.target is None or best is None:
        return False
    return not is_better(settings.target, best, metric=settings.metric)


def is_better(score: float, best: float | None, *, metric: str) -> bool:
    """Whether a score improves on the best so far; a score that is not finite never does."""
    if not math.isfinite(score):
        return False
    if best is None or not math.isfinite(best):
        return True
    return score > best if METRICS[metric].higher_is_better else score < best
