"""The training loop: forward, backward, clip, update, and nothing else; all other work is done by callbacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.errors import DivergenceError
from seqkit.loss import Tally
from seqkit.parallel.processes import Processes
from seqkit.parallel.sharding import ShardedGradients
from seqkit.settings import Schedule
from seqkit.state import State, map_state, select
from seqkit.training.diagnosis import culprit
from seqkit.training.gradients import Gradients
from seqkit.training.memory import peak
from seqkit.training.objective import Objective
from seqkit.training.optimizers import set_rates
from seqkit.training.reading import BatchGroup, GroupReader, TrainingStream
from seqkit.training.schedule import factor

__all__ = [
    "Abandoned",
    "Callback",
    "Progress",
    "Trainer",
    "Update",
    "ValidationReport",
]

EXAMPLES = 10  # of a bad step that are named
BAD_STEPS = 20  # as many steps in a row without a finite gradient are taken for divergence


@dataclass
class Progress:
    """Where a run stands: everything that a checkpoint must know besides tensors."""

    step: int = 0  # updates made
    epoch: int = 0  # passes finished
    position: int = 0  # groups read in this epoch
    tokens: int = 0  # target tokens read
    seconds: float = 0.0  # wall time of the run, all attempts together
    skipped: int = 0  # steps without a finite gradient
    horizon: int | None = None  # the step at which the schedule ends
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # validations since the best
    validated: int = 0  # the step of the last validation that was made to its end
    scores: list[float | None] = field(default_factory=list)  # before averaging began; None: not finite
    stop: str | None = None  # why the run is over
    complete: bool = False  # whether what follows the last step was done too: the last validation, the last save


@dataclass(frozen=True)
class Update:
    """The figures of one update."""

    tally: Tally
    padded: int
    rate: float
    norm: float
    updated: bool
    parts: int = 1  # into which this process had to cut each batch, for want of memory
    lost: Sequence[str] = ()  # what did not fit in memory even alone


@dataclass(frozen=True)
class ValidationReport:
    """The figures of one validation."""

    tally: Tally
    scores: dict[str, float]  # by metric
    signature: str
    samples: list[tuple[str, str, str]] = field(default_factory=list)  # source, reference, hypothesis
    seconds: float = 0.0


class Abandoned(Exception):  # noqa: N818 - being stopped is no error
    """A validation was left before its end, by all processes at once, since one of them wants to stop."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GradientSums(Protocol):
    """The gradients of all processes."""

    def clear(self) -> None:
        """Set all gradients to zero."""
        ...

    def sum(self, processes: Processes, tally: Tally, *, stop: bool) -> tuple[Tally, bool]:
        """Sum gradients and tallies over all processes; also whether any of them wants to stop."""
        ...

    def clip(self, maximum: float | None) -> float:
        """Scale the gradients down to the norm `maximum`; their norm before."""
        ...


class Callback:
    """What may happen around the loop; every moment does nothing unless a subclass says otherwise."""

    def started(self, trainer: Trainer) -> None:
        """Before the first step of this attempt."""

    def ready(self, trainer: Trainer) -> None:
        """Before the first step, when every callback has started: for what an earlier attempt left undone."""

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """After each step."""

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """After a validation."""

    def ended(self, trainer: Trainer) -> None:
        """When the run stops of its own accord or is asked to; not after an error."""


class Trainer:
    """Owns model, optimizers, stream and progress, and steps until a callback sets `progress.stop`."""

    def __init__(
        self,
        *,
        objective: Objective,
        optimizers: Sequence[torch.optim.Optimizer],
        schedule: Schedule,
        stream: TrainingStream,
        callbacks: Sequence[Callback],
        seed: int,
        clip: float | None,
        processes: Processes | None = None,
        progress: Progress | None = None,
        device: torch.device | None = None,
        sharded: bool = False,
    ) -> None:
        """`sharded`: the objective's parameters are shared out over the processes."""
        self.objective = objective
        self.optimizers = list(optimizers)
        self.schedule = schedule
        self.stream = stream
        self.callbacks = list(callbacks)
        self.seed = seed
        self.clip = clip
        self.processes = processes or Processes()
        self.progress = progress or Progress()
        self.device = device or torch.device("cpu")
        self.sharded = sharded
        # What processes exchange in the midst of a pass cannot be read again by one alone.
        whole = None if sharded else Gradients(objective.parameters())
        self.gradients: GradientSums = whole or ShardedGradients(objective.parameters())
        self.reader = GroupReader(
            objective,
            vector=None if whole is None else whole.vector,
            clear=self.gradients.clear,
            carries=stream.carries > 0,
            run_seed=seed,
            processes=self.processes,
            device=self.device,
        )
        self.stop_reason: str | None = None  # why this process wants to stop; all stop together, after the next step
        self.bad = 0
        self.carried: State = None  # behind the last batch, for the rows of all processes, where state is carried

    def run(self) -> Progress:
        """Train until something says stop."""
        progress = self.progress
        self.objective.train()
        for callback in self.callbacks:
            callback.started(self)
        for callback in self.callbacks:
            callback.ready(self)
        while progress.stop is None:
            for group in self.stream.groups(progress.epoch, progress.position):
                step = self.step(group)
                progress.position += 1
                for callback in self.callbacks:
                    callback.stepped(self, step)
                if progress.stop is not None:
                    break
            else:
                progress.epoch, progress.position = progress.epoch + 1, 0
        for callback in self.callbacks:
            callback.ended(self)
        return progress

    def step(self, group: BatchGroup) -> Update:
        """One update from one group of batches."""
        progress = self.progress
        rate = factor(self.schedule, progress.step, horizon=progress.horizon)
        set_rates(self.optimizers, rate)
        read = self.reader.read(group, (progress.epoch, progress.position))
        if self.reader.often_tight:
            self.stop_reason = self.stop_reason or "memory"
        tally, stop = self.gradients.sum(self.processes, read.tally, stop=self.stop_reason is not None)
        if self.stream.carries:
            self.reader.state = read.state
            self.carried = map_state(lambda rows: self.processes.interleave(rows, self.stream.carries), read.state)
        norm = self.gradients.clip(self.clip)
        updated = self._update(norm, group)
        progress.tokens += group.tokens
        if stop:
            progress.stop = next(reason for reason in self.processes.gather(self.stop_reason) if reason is not None)
        return Update(tally, group.padded, rate, norm, updated, read.parts, read.lost)

    def rehearse(self) -> int:
        """Read the largest batch ahead once, so that a lack of memory shows now; weights and random numbers stay.

        Returns the most memory that this process has used, in bytes. Raises ResourceError if it does not fit.
        """
        self.reader.rehearse(self.stream.largest(self.progress.epoch))
        return peak(self.device)

    def _update(self, norm: float, group: BatchGroup) -> bool:
        """Apply the gradients, unless they are not finite: then all processes skip alike."""
        if not math.isfinite(norm):
            self.progress.skipped += 1
            self.bad += 1
            if self.bad == BAD_STEPS:
                raise DivergenceError(
                    f"no finite gradient in {BAD_STEPS} steps in a row, at step {self.progress.step}{self._why(group)}",
                    "lower train.learning_rate or lengthen the warm-up; the last checkpoint is good",
                )
            return False
        for optimizer in self.optimizers:
            optimizer.step()
        self.bad = 0
        self.progress.step += 1
        return True

    def _why(self, group: BatchGroup) -> str:
        """Which value of a group is not finite, and which examples the group has, as far as that is known."""
        examples = [str(example) for batch in group.examples for example in batch]
        shown = ", ".join(examples[:EXAMPLES]) + (f" and {len(examples) - EXAMPLES} more" * (len(examples) > EXAMPLES))
        read = f", with the training examples {shown} (counted from 0)" if examples else ""
        if self.sharded:  # the search ends at another place in each process, and they would wait for each other
            return read
        self.reader.seed((self.progress.epoch, self.progress.position))
        for batch in (batch.to(self.device) for batch in group.batches if not batch.continues):
            with self.objective.uncompiled():  # what is compiled tells nothing of what is inside
                name = culprit(self.objective.model, partial(self._objective, batch))
            if name != "the norm of all gradients":
                return f": {name} is not finite{read}"
        return read

    def _objective(self, batch: Batch) -> Tensor:
        tally, _ = self.objective(batch)
        objective: Tensor = tally.objective
        return objective

    def resume(self, carried: State) -> None:
        """Go on from a state of all processes' rows, as `carried` gave it."""
        self.carried = carried
        rows = torch.arange(self.processes.rank, self.stream.carries, self.processes.world, device=self.device)
        self.reader.state = select(carried, rows)

    def validated(self, report: ValidationReport) -> None:
        """Tell every callback of a validation."""
        for callback in self.callbacks:
            callback.validated(self, report)
