"""Reports how a run goes, to people and to log files."""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

from seqkit.errors import SeqkitError, exit_code_of
from seqkit.loss import Tally
from seqkit.storage.journal import Journal
from seqkit.storage.status import outcome_of
from seqkit.training.callbacks import FINAL
from seqkit.training.display.progress import Display
from seqkit.training.display.snapshot import Sample, Snapshot
from seqkit.training.memory import peak
from seqkit.training.trainer import Callback, Progress, Trainer, Update, ValidationReport

__all__ = ["About", "Reporting"]

SECONDS = 0.25  # between two redraws
RECORD_SECONDS = 5.0  # between two records in the log
SHORTEST = 0.001  # seconds; a pace over less is not reliable


@dataclass(frozen=True)
class About:
    """What a display says of a run besides its numbers."""

    run: str
    model: str
    device: str
    precision: str
    metric: str
    epochs: int | None = None
    minutes: float | None = None


class Reporting(Callback):
    """Feeds the display and `log.jsonl`, `status.json`, `samples.tsv`; lives on the first process."""

    def __init__(
        self,
        *,
        display: Display,
        journal: Journal,
        about: About,
    ) -> None:
        self.display = display
        self.journal = journal
        self.about = about
        self.metric = about.metric
        self.window: Tally | None = None
        self.padded = self.tight = 0
        self.since = self.recorded = self.began = time.monotonic()
        self.first_step = self.recorded_step = 0
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.perplexities: list[float] = []
        self.samples: tuple[Sample, ...] = ()
        self.saved: tuple[int, float] | None = None
        self.snapshot: Snapshot | None = None
        self.last: Update | None = None

    def started(self, trainer: Trainer) -> None:
        """Note where this attempt begins."""
        self.since = self.recorded = self.began = time.monotonic()
        self.first_step = self.recorded_step = trainer.progress.step
        self.journal.status(self._status("running", trainer.progress), force=True)

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Add the step's figures; read and show them every quarter of a second."""
        if not step.updated:
            self.on_event("skip", {"step": trainer.progress.step, "reason": "the gradient is not finite"})
        if step.parts > 1:
            self.tight += 1
            self.on_event("oom", {"step": trainer.progress.step, "parts": step.parts})
        if step.lost:
            reason = "no room in memory for one example alone"
            self.on_event("skip", {"step": trainer.progress.step, "reason": reason, "ids": list(step.lost)})
        self.window = step.tally if self.window is None else self.window + step.tally
        self.padded += step.padded
        self.last = step
        now = time.monotonic()
        if now - self.since >= SECONDS or trainer.progress.stop is not None:
            self._show(trainer, step, now)

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Record the scores and show them with the samples."""
        progress = trainer.progress
        if self.last is not None:  # where validations come in quick succession, nothing else would ever be shown
            self._show(trainer, self.last, time.monotonic())
        self.perplexities.append(report.tally.perplexity)
        self.scores.append(report.scores[self.metric])
        self.samples = tuple(Sample(*row) for row in report.samples)
        self.journal.write(
            "valid",
            {
                "step": progress.step,
                "epoch": progress.epoch,
                "loss": report.tally.loss,
                "ppl": report.tally.perplexity,
                "tokens": int(report.tally.tokens),
                **{name: score for name, score in report.scores.items() if name != "loss"},
                "signature": report.signature,
                "seconds": round(report.seconds, 3),
            },
        )
        self.journal.samples(progress.step, report.samples)
        if progress.best_step == progress.step:
            self.journal.write("best", {"step": progress.step, self.metric: progress.best})
        if progress.horizon is not None:
            self.journal.write("horizon", {"step": progress.step, "horizon": progress.horizon})
        if self.snapshot is not None:
            self.display.validated(self._snapshot(trainer, self.snapshot))
        self.since = time.monotonic()  # validation does not count as slow training
        self.window, self.padded = None, 0

    def finished(self, progress: Progress, ending: SeqkitError | None = None) -> None:
        """Record how it ended, once everything is saved; `ending` is what its caller will raise."""
        state = "done" if progress.stop in FINAL else "stopped"
        event = "end" if progress.stop in FINAL else "stop"
        self.journal.write(event, {"step": progress.step, "reason": progress.stop, "seconds": progress.seconds})
        code = 0 if ending is None else exit_code_of(ending)
        ended = {"message": progress.stop, "exit_code": code}
        self.journal.status({**self._status(state, progress), **ended}, force=True)

    def failed(self, progress: Progress, error: BaseException) -> None:
        """Record why it broke off."""
        ended = outcome_of(error)
        self.journal.write("stop", {"step": progress.step, "reason": ended["message"]})
        self.journal.status({**self._status("failed", progress), **ended}, force=True)
        self.journal.log("".join(traceback.format_exception(error)))

    def on_event(self, event: str, fields: Mapping[str, object]) -> None:
        """Record an event; warnings and skips are shown too."""
        self.journal.write(event, fields)
        if event == "save":
            self.saved = (int(str(fields["step"])), time.monotonic())
        elif event == "warn":
            self.display.message(str(fields["message"]))
        elif event == "horizon":
            self.display.message(
                f"the learning rate now falls towards step {fields['horizon']}, not {fields['before']}"
            )
        elif event == "skip" and "ids" in fields:
            self.display.message(f"skipped: training examples {fields['ids']} (counted from 0): {fields['reason']}")
        elif event == "skip":
            self.display.message(f"step skipped: {fields['reason']}")
        elif event == "oom" and self.tight == 1:
            self.display.message(
                f"out of memory at step {fields['step']}: the batch was read in {fields['parts']} parts"
            )

    def _show(self, trainer: Trainer, step: Update, now: float) -> None:
        tally, seconds = self.window, max(now - self.since, 1e-9)
        if tally is None or int(tally.tokens) == 0:
            return
        tokens = int(tally.tokens)
        self.losses.append(tally.loss)
        if len(self.losses) > 400:
            self.losses = self.losses[1::2]
        progress = trainer.progress
        base = Snapshot(
            run=self.about.run,
            model=self.about.model,
            device=self.about.device,
            precision=self.about.precision,
            step=progress.step,
            epoch=progress.epoch,
            elapsed=progress.seconds,
            loss=tally.loss,
            perplexity=tally.perplexity if tally.loss < 300 else math.inf,
            rate=step.rate * float(trainer.optimizers[-1].param_groups[0]["base"]),
            tokens_per_second=self._pace(tokens, seconds),
            padding=1 - tokens / max(1, self.padded),
            gradient_norm=step.norm,
        )
        self.snapshot = self._snapshot(trainer, base)
        self.display.update(self.snapshot)
        self.journal.status(self._status("running", progress))
        due = now - self.recorded >= RECORD_SECONDS or progress.stop is not None
        if due and progress.step > self.recorded_step:  # a step has one record in an attempt
            self.recorded, self.recorded_step = now, progress.step
            self.journal.write(
                "step",
                {
                    "step": progress.step,
                    "epoch": self.snapshot.epoch,
                    "loss": tally.loss,
                    "ppl": self.snapshot.perplexity,
                    "lr": self.snapshot.rate,
                    "tok_s": round(self.snapshot.tokens_per_second, 1),
                    "grad_norm": step.norm,
                    "pad_frac": round(self.snapshot.padding, 4),
                    "mem_gb": round(peak(trainer.device) / 1e9, 3),
                },
            )
        self.window, self.padded, self.since = None, 0, now

    def _pace(self, tokens: int, seconds: float) -> float:
        """Tokens a second; over too short a time the last pace stands."""
        if seconds < SHORTEST and self.snapshot is not None:
            return self.snapshot.tokens_per_second
        return tokens / seconds

    def _snapshot(self, trainer: Trainer, base: Snapshot) -> Snapshot:
        """The numbers of `base` with what is known of the whole run."""
        progress = trainer.progress
        done, now = progress.step - self.first_step, time.monotonic()
        eta = None
        if self.about.minutes is not None:
            eta = max(0.0, self.about.minutes * 60 - progress.seconds)
        elif progress.horizon is not None and done:
            eta = (progress.horizon - progress.step) * (now - self.began) / done
        return dataclasses.replace(
            base,
            steps_total=progress.horizon,
            epoch=progress.epoch + progress.position / max(1, trainer.stream.count(progress.epoch)),
            epochs_total=self.about.epochs,
            eta=eta,
            losses=tuple(self.losses),
            metric=self.metric,
            scores=tuple(self.scores),
            perplexities=tuple(self.perplexities),
            best_score=progress.best,
            best_step=progress.best_step,
            saved_step=None if self.saved is None else self.saved[0],
            saved_ago=None if self.saved is None else now - self.saved[1],
            skipped=progress.skipped,
            out_of_memory=self.tight,
            samples=self.samples,
        )

    def _status(self, state: str, progress: Progress) -> dict[str, object]:
        reached = {"step": progress.step, "best": progress.best, "best_step": progress.best_step}
        return {"state": state, **reached, "message": None, "exit_code": None}
