"""A trainer over a model so small that a step takes a millisecond."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.loss import Tally
from seqkit.models.build import Sizes, build_translation
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.processes import Processes
from seqkit.settings import Adam, Constant, Optimizer, Recurrent, Schedule
from seqkit.state import State
from seqkit.training.objective import Objective
from seqkit.training.optimizers import build_optimizers
from seqkit.training.trainer import Callback, Progress, Trainer, Update, ValidationReport

VOCABULARY = 8
ADAM, STEADY = Adam(), Constant()


class Group(NamedTuple):
    """The batches of one step; `padded` is for display, and `examples` is for messages."""

    batches: Sequence[Batch]
    tokens: int
    padded: int = 0
    examples: Sequence[Sequence[int]] = ()


def group_of(*batches: Batch) -> Group:
    """These batches as one step."""
    masks = [batch.targets.mask for batch in batches]
    return Group(batches, sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks))


class NoStream:
    """A stream of nothing, for tests that hand their groups to `Trainer.step` themselves."""

    carries = 0

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        yield from ()

    def count(self, epoch: int) -> int:
        return 0

    def largest(self, epoch: int) -> Group:
        raise IndexError("there is nothing in it")


@dataclass
class ToyStream:
    """Each epoch has the same number of groups of two batches, all different, a function of epoch and number."""

    size: int = 4
    carries: int = 0
    built: list[tuple[int, int]] = field(default_factory=list)  # which groups were read

    def count(self, epoch: int) -> int:
        return self.size

    def largest(self, epoch: int) -> Group:
        return toy_group(1000 * epoch)

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        for number in range(start, self.size):
            self.built.append((epoch, number))
            yield toy_group(1000 * epoch + number)


def toy_group(seed: int) -> Group:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 6, size=(2, 6))
    source, target = (
        Encoded.from_lists([random.integers(3, VOCABULARY, size=n).tolist() for n in side]) for side in lengths
    )
    return group_of(*(translation_batch(source, target, np.arange(first, first + 3)) for first in (0, 3)))


def toy_model(*, seed: int = 0, dropout: float = 0.0) -> EncoderDecoder:
    torch.manual_seed(seed)
    settings = Recurrent(width=6, embedding=6, attention="dot", tied="output", dropout=dropout)
    return build_translation(settings, Sizes(VOCABULARY, VOCABULARY, joint=False))


def toy_trainer(
    *callbacks: Callback,
    model: EncoderDecoder | None = None,
    objective: Objective | None = None,
    optimizer: Optimizer = ADAM,
    schedule: Schedule = STEADY,
    stream: ToyStream | None = None,
    progress: Progress | None = None,
    processes: Processes | None = None,
    clip: float | None = 1.0,
    sharded: bool = False,
) -> Trainer:
    objective = objective or Objective(model or toy_model(), smoothing=0.1)
    parameters = dict(objective.model.named_parameters())
    matrices = {name for name, parameter in parameters.items() if parameter.ndim == 2 and "embedding" not in name}
    return Trainer(
        objective=objective,
        optimizers=build_optimizers(optimizer, parameters, rate=0.01, matrices=matrices, processes=processes),
        schedule=schedule,
        stream=stream or ToyStream(),
        callbacks=callbacks,
        seed=1,
        clip=clip,
        processes=processes,
        progress=progress,
        sharded=sharded,
    )


class Poisoned(Objective):
    """Gives gradients that are not finite in the calls named, one call a batch."""

    def __init__(self, *calls: int, value: float = math.nan) -> None:
        super().__init__(toy_model(), smoothing=0.1)
        self.calls, self.bad, self.value = 0, calls, value

    def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
        tally, state = super().forward(batch, state)
        self.calls += 1
        scale = self.value if self.calls - 1 in self.bad else 1.0
        return Tally(tally.objective * scale, tally.nll, tally.tokens), state


class Crowded(Objective):
    """Has no room for more than so many rows at a time, nor for rows in which a forbidden token stands."""

    def __init__(self, room: int, *, forbidden: Tensor | None = None, late: bool = False) -> None:
        super().__init__(toy_model(), smoothing=0.1)
        self.room, self.forbidden, self.late = room, forbidden, late
        self.failures = 0

    def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
        rows = batch.targets.ids
        never = self.forbidden is not None and any(
            torch.equal(row[row > 0], self.forbidden[self.forbidden > 0]) for row in rows
        )
        full = len(rows) > self.room or never
        self.failures += full
        if full and not self.late:
            raise torch.OutOfMemoryError("no room")
        tally, state = super().forward(batch, state)
        objective = failing(tally.objective) if full else tally.objective
        return Tally(objective, tally.nll, tally.tokens), state


def failing(x: Tensor) -> Tensor:
    """`x`, whose gradient there is no memory for."""
    result: Tensor = Failing.apply(x)  # type: ignore[no-untyped-call]  # torch's stubs do not say what it takes
    return result


class Failing(torch.autograd.Function):
    """Runs out of memory on the way back, when a part of the gradient is there already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("no room")


class StopAt(Callback):
    """Ends a run after so many updates."""

    def __init__(self, step: int, reason: str = "steps") -> None:
        self.step, self.reason = step, reason

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.progress.step >= self.step:
            trainer.progress.stop = self.reason


class Notes(Callback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.moments: list[str] = []
        self.steps: list[Update] = []
        self.reports: list[ValidationReport] = []

    def started(self, trainer: Trainer) -> None:
        self.moments.append("started")

    def stepped(self, trainer: Trainer, step: Update) -> None:
        self.moments.append("stepped")
        self.steps.append(step)

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        self.moments.append("validated")
        self.reports.append(report)

    def ended(self, trainer: Trainer) -> None:
        self.moments.append("ended")


def numbers(notes: Notes) -> list[tuple[float, float, float]]:
    """Loss, norm and rate of every step."""
    return [(step.tally.loss, step.norm, step.rate) for step in notes.steps]


def weights(trainer: Trainer) -> Tensor:
    """All weights in one vector, copied."""
    return torch.cat([parameter.detach().flatten() for parameter in trainer.objective.parameters()])


def report(*, bleu: float = 0.0, loss: float = 1.0, seconds: float = 0.0) -> ValidationReport:
    tally = Tally(*torch.tensor([loss, loss, 1.0]))
    return ValidationReport(tally, {"bleu": bleu, "loss": loss}, signature="", seconds=seconds)
