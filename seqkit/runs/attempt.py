"""One process's part in one attempt at a run: from its first barrier to the published model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqkit import config
from seqkit.errors import BusyError, Interrupted, SeqkitError
from seqkit.runs.folder import Change
from seqkit.runs.setup import ProcessContext, set_up
from seqkit.runs.summary import about_of, facts_of, summary_of
from seqkit.storage import checkpoint, status
from seqkit.storage.journal import Journal
from seqkit.storage.lock import RunLock
from seqkit.storage.model_folder import published_step, write_model
from seqkit.training.callbacks import FINAL, LockGuard
from seqkit.training.display.progress import Display
from seqkit.training.reading import TIGHT, too_large
from seqkit.training.reporting import Reporting
from seqkit.training.saving import name_best
from seqkit.training.trainer import Callback, Progress, Trainer

__all__ = ["Attempt"]


@dataclass(frozen=True)
class Attempt(ProcessContext):
    """One process's part in one attempt at a run, from its first barrier to the published model."""

    changes: Sequence[Change] = ()  # what the last attempt had otherwise
    callbacks: Sequence[Callback] = ()  # of whoever called `train`

    def lead(self, display: Display, journal: Journal, lock: RunLock) -> Progress:
        """The first process: also reports, saves and publishes the model."""
        self.processes.barrier()  # the others may read what was prepared
        reporting = Reporting(display=display, journal=journal, about=about_of(self))
        trainer, start, warnings = set_up(self, reporting, first=[LockGuard(lock)], watching=self.callbacks)
        for warning in warnings:
            reporting.on_event("warn", {"message": warning})
        if trainer.progress.complete:
            self.processes.broadcast(False)
            self._complete(trainer, start, reporting)
            reached = trainer.progress
            display.message(f"{self.run} is already complete: {reached.step} steps ({reached.stop})")
            return reached
        self.processes.broadcast(True)
        used = trainer.rehearse()
        display.started(summary_of(self, trainer, start, used, self.changes))
        journal.write("resume" if start else "start", facts_of(self, trainer, start, self.changes))
        self._train(trainer, reporting)
        return self._end(trainer.progress, reporting)

    def follow(self) -> Progress:
        """Any other process."""
        trainer, _, _ = set_up(self, None)
        if self.processes.broadcast(None):
            trainer.rehearse()
            trainer.run()
            self.processes.barrier()
        return trainer.progress

    def _train(self, trainer: Trainer, reporting: Reporting) -> None:
        """Train until something says stop, and publish the model; what breaks it off is recorded."""
        try:
            trainer.run()
            self.processes.barrier()  # nobody leaves while another still waits for an exchange to end
            self._publish(trainer)
        except BusyError:  # what is recorded in the folder is another's now
            raise
        except BaseException as error:
            reporting.failed(trainer.progress, error)
            raise

    def _end(self, progress: Progress, reporting: Reporting) -> Progress:
        """Record how it ended. Raises Interrupted, or ResourceError, for a run that is not complete."""
        if progress.stop in FINAL:
            reporting.finished(progress)
            return progress
        ending: SeqkitError = Interrupted(
            self.options.request.signal or 2,
            f"stopped at step {progress.step} ({progress.stop}), all saved",
            "the same command goes on from there",
        )
        if progress.stop == "memory":
            ending = too_large(f"more than {TIGHT:.0%} of the steps did not fit; all is saved")
        reporting.finished(progress, ending)
        raise ending

    def _complete(self, trainer: Trainer, start: checkpoint.Checkpoint | None, reporting: Reporting) -> None:
        """Do for a complete run what a death after its last save left undone."""
        folder, metric = self.run / "checkpoints", self.recipe.train.metric
        name_best(folder, trainer.progress, metric=metric, on_event=reporting.on_event)
        best = checkpoint.best(folder)
        step = trainer.progress.step if best is None else best.step
        published = published_step(self.run / "model")
        last = status.read(self.run)
        if published == step and last is not None and last.state == "done":
            return
        reporting.journal.write("resume", facts_of(self, trainer, start, self.changes))
        checkpoint.prune(self.run / "checkpoints", self.recipe.train.keep)
        if published != step:
            self._publish(trainer)
        reporting.finished(trainer.progress)

    def _publish(self, trainer: Trainer) -> None:
        """Write `model/` from the best checkpoint, or from the last where nothing was validated."""
        folder = self.run / "checkpoints"
        best = checkpoint.best(folder)
        chosen = checkpoint.read(checkpoint.step_path(folder, trainer.progress.step if best is None else best.step))
        tensors = chosen.tensors("average" if "average" in chosen.stems else "model")
        facts = {"step": chosen.step, "score": None if best is None else best.score, "metric": self.recipe.train.metric}
        recipe = config.dump(self.recipe)
        write_model(self.run / "model", recipe=recipe, codec_folder=self.run / "codec", tensors=tensors, facts=facts)
