"""What training asks of a kind of data, and how every kind is validated."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from seqkit.data.loading import BuildBatch, EpochExamples, ExampleStream
from seqkit.loss import Tally
from seqkit.parallel.parameters import EvaluationWeights
from seqkit.parallel.processes import Processes
from seqkit.settings import Recipe
from seqkit.text.codec import Codecs
from seqkit.training.objective import Objective
from seqkit.training.reading import TrainingStream
from seqkit.training.trainer import Abandoned, ValidationReport

__all__ = ["Scores", "Task", "ValidationContext", "Validator", "never_stop"]


def never_stop() -> None:
    """No process wants to stop."""


class ValidationContext(NamedTuple):
    """The processes and the device that validate, and what may break a validation off."""

    processes: Processes
    device: torch.device
    stop_reason: Callable[[], str | None] = never_stop  # why this process wants to stop; None: it does not


@dataclass(frozen=True)
class Task(ABC):
    """A recipe's files, read, cleaned and encoded."""

    recipe: Recipe
    codecs: Codecs
    notes: list[str]  # what was dropped or looks odd, for people
    fingerprint: str  # of the training files and of all settings that decide what they become

    @property
    @abstractmethod
    def summary(self) -> str:
        """What there is to train on, in a line."""

    @abstractmethod
    def stream(self, processes: Processes) -> TrainingStream:
        """The training batches of one process."""

    @abstractmethod
    def objective(self, model: nn.Module, device: torch.device) -> Objective:
        """Model and loss as one module."""

    @abstractmethod
    def validator(
        self, model: nn.Module, place: ValidationContext, average: EvaluationWeights | None
    ) -> Callable[[], ValidationReport] | None:
        """What scores a model on the development set; None if there is no such set."""

    def batches(
        self, build: BuildBatch, examples: EpochExamples, processes: Processes, *, ends: int = 1
    ) -> ExampleStream:
        """The training batches of one process, where examples stand alone; see `ExampleStream` for the rest."""
        settings = self.recipe.train
        return ExampleStream(
            build,
            examples=examples,
            budget=settings.budget,
            accumulate=settings.accumulate,
            seed=settings.seed,
            rank=processes.rank,
            world=processes.world,
            ends=ends,
        )


@dataclass(frozen=True)
class Scores:
    """What a validation found besides the loss."""

    values: dict[str, float]  # by metric
    signature: str = ""
    samples: list[tuple[str, str, str]] = field(default_factory=list)  # source, reference, hypothesis


class Validator(ABC):
    """Scores a model on the development set while it trains; every process does its share and knows the result.

    Where a process wants to stop, all leave the validation together, between two pieces of work, by `Abandoned`.
    """

    def __init__(self, model: nn.Module, place: ValidationContext, average: EvaluationWeights | None) -> None:
        self.model = model
        self.processes, self.device, self.stop_reason = place
        self.average = average

    def __call__(self) -> ValidationReport:
        """Loss and scores with the averaged weights, where there are such; the model's mode is left as it was."""
        began = time.monotonic()
        with (
            self._evaluating(),
            contextlib.nullcontext() if self.average is None else self.average.applied(),
            torch.no_grad(),
        ):
            with self.together() as piece_done:
                total = self.loss(piece_done)
            self.processes.sum(total)
            scores = self.scores()
        tally = Tally(*total)
        return ValidationReport(
            tally, {"loss": tally.loss, **scores.values}, scores.signature, scores.samples, time.monotonic() - began
        )

    @contextlib.contextmanager
    def together(self) -> Iterator[Callable[[], object]]:
        """Work that can be left: call what is yielded after each piece of it, of which any process may have more.

        Processes ask each other before the first piece, after each, and until the last of them has done all of its own:
        so they ask equally often, and raise `Abandoned` at the same time.
        """
        self._ask(busy=True)
        yield partial(self._ask, busy=True)
        while self._ask(busy=False):
            pass

    def _ask(self, *, busy: bool) -> bool:
        """Whether any process is still busy."""
        stop_reason = self.stop_reason()
        answer = torch.tensor([stop_reason is not None, busy], dtype=torch.int64)
        self.processes.sum(answer)
        stopping, working = answer.tolist()
        if stopping:
            raise Abandoned(next(reason for reason in self.processes.gather(stop_reason) if reason is not None))
        return bool(working)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    @abstractmethod
    def loss(self, piece_done: Callable[[], object]) -> torch.Tensor:
        """This process's share of objective, negative log-likelihood and tokens: (3,), float64, on the CPU."""

    @abstractmethod
    def scores(self) -> Scores:
        """What else is measured; called after `loss`, on every process at the same time."""
