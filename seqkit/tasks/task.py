"""What training asks of a kind of data, and how every kind is validated."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from seqkit.loss import Tally
from seqkit.settings import Recipe
from seqkit.text.codec import Codecs
from seqkit.train.average import Average
from seqkit.train.distributed import Processes
from seqkit.train.objective import Objective
from seqkit.train.trainer import Report, Stream

__all__ = ["Place", "Scores", "Task", "Validator"]


class Place(NamedTuple):
    """Where training happens."""

    processes: Processes
    device: torch.device


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
    def stream(self, processes: Processes) -> Stream:
        """The training batches of one process."""

    @abstractmethod
    def objective(self, model: nn.Module, device: torch.device) -> Objective:
        """Model and loss as one module."""

    @abstractmethod
    def validator(self, model: nn.Module, place: Place, average: Average | None) -> Callable[[], Report] | None:
        """What scores a model on the development set; None if there is no such set."""


@dataclass(frozen=True)
class Scores:
    """What a validation found besides the loss."""

    values: dict[str, float]  # by metric
    signature: str = ""
    samples: list[tuple[str, str, str]] = field(default_factory=list)  # source, reference, hypothesis


class Validator(ABC):
    """Scores a model on the development set while it trains; every process does its share and knows the result."""

    def __init__(self, model: nn.Module, place: Place, average: Average | None) -> None:
        self.model = model
        self.processes, self.device = place
        self.average = average

    def __call__(self) -> Report:
        """Loss and scores with the averaged weights, where there are such; the model's mode is left as it was."""
        began = time.monotonic()
        was_training = self.model.training
        self.model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied(), torch.no_grad():
            total = self.loss()
            self.processes.sum(total)
            found = self.scores()
        self.model.train(was_training)
        tally = Tally(*total)
        return Report(
            tally, {"loss": tally.loss, **found.values}, found.signature, found.samples, time.monotonic() - began
        )

    @abstractmethod
    def loss(self) -> torch.Tensor:
        """This process's share of objective, negative log-likelihood and tokens: (3,), float64, on the CPU."""

    @abstractmethod
    def scores(self) -> Scores:
        """What else is measured; called after `loss`, on every process at the same time."""
