"""Labelled text: sentences -> codecs, ids, batches, and validation by accuracy and F1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import nn

from seqkit.data.batching import length_batches, slice_of
from seqkit.data.cleaning import overlap
from seqkit.data.datasets import Encoded
from seqkit.data.labelled_text import LabelledText, read_labelled
from seqkit.data.loading import ExampleStream, label_batch
from seqkit.engine.batch_labels import BUDGET, label_batches, label_names, longest_part, token_ids
from seqkit.errors import ConfigError, DataError
from seqkit.files import expand_braces, sha256
from seqkit.loss import cross_entropy
from seqkit.metrics.label_scores import label_scores
from seqkit.metrics.table import labelling_metrics
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.parallel.parameters import EvaluationWeights
from seqkit.parallel.processes import Processes
from seqkit.settings import Labelled, Recipe, Words
from seqkit.tasks.task import Scores, Task, ValidationContext, Validator
from seqkit.tasks.text_layer import text_layer
from seqkit.text.codec import Codec, Codecs
from seqkit.text.vocabulary import SPECIAL_TOKENS, UNKNOWN
from seqkit.training.labelling_objective import LabellingObjective
from seqkit.training.objective import Objective, build_objective
from seqkit.training.trainer import ValidationReport

__all__ = ["LabellingTask", "LabellingValidator", "prepare"]

LABELS = Words(split="spaces", normalise=(), joint=False)  # how labels become ids: all are kept, as they are written
SAMPLES = 3


@dataclass(frozen=True)
class LabellingTask(Task):
    """Sentences to learn the labels of tokens from."""

    data: Labelled
    tokens: Encoded  # the training sentences
    labels: Encoded
    dev: LabelledText | None

    @property
    def summary(self) -> str:
        """Sentences, tokens, labels and development sentences."""
        labels = len(self.codecs.target) - len(SPECIAL_TOKENS)
        dev = "no development set" if self.dev is None else f"{len(self.dev)} development sentences"
        return f"{len(self.tokens)} training sentences, {len(self.tokens.ids)} tokens, {labels} labels, {dev}"

    def stream(self, processes: Processes) -> ExampleStream:
        """Batches of sentences."""
        return self.batches(label_batch, lambda epoch: (self.tokens, self.labels), processes, ends=0)

    def objective(self, model: nn.Module, device: torch.device) -> Objective:
        """Cross-entropy of every label."""
        return build_objective(self.recipe, model, device, kind=LabellingObjective)

    def validator(
        self, model: nn.Module, place: ValidationContext, average: EvaluationWeights | None
    ) -> Callable[[], ValidationReport] | None:
        """Loss, accuracy and, where labels mark spans, F1 on the development set."""
        return None if self.dev is None else LabellingValidator(self, self.dev, model, place, average)


def prepare(recipe: Recipe, data: Labelled, run: Path) -> LabellingTask:
    """Read the sentences, learn both vocabularies (or take the run's own) and encode; what is left out is counted.

    Raises ConfigError where tokens would not stay as the files cut them, and where the text layer lacks a label.
    """
    settings = recipe.text
    if not isinstance(settings, Words) or settings.split != "spaces":
        raise ConfigError("labels belong to tokens as the file cuts them", "set text.kind=words and text.split=spaces")
    text = _read(data.train)
    dev = _read(data.dev) if data.dev else None
    codecs = text_layer(settings, run / "codec", lambda: _learn(text, settings))
    tokens, labels = token_ids(codecs.source, text.tokens), token_ids(codecs.target, text.labels)
    if strange := _strange(codecs, text):
        raise ConfigError(
            f"the text layer does not know the training label {strange[0]!r}",
            "leave text.from out, or start anew with --overwrite: labels are learnt with the text layer",
        )
    notes = [] if dev is None else _notes(codecs, text, dev)
    kept = np.flatnonzero(tokens.lengths <= data.maximum_length)
    if len(kept) < len(tokens):
        notes.append(f"{len(tokens) - len(kept)} training sentences dropped: too long")
        if not len(kept):
            raise DataError("no usable training sentence is left", "raise data.maximum_length")
        tokens, labels = tokens.take(kept), labels.take(kept)
    return LabellingTask(recipe, codecs, notes, _fingerprint(data, codecs), data, tokens, labels, dev)


def _learn(text: LabelledText, settings: Words) -> Codecs:
    tokens, labels = (map(" ".join, side) for side in (text.tokens, text.labels))
    return Codecs(Codec.learn(tokens, settings), Codec.learn(labels, LABELS))


def _read(words: Sequence[str]) -> LabelledText:
    return read_labelled([name for word in words for name in expand_braces(word)])


def _notes(codecs: Codecs, text: LabelledText, dev: LabelledText) -> list[str]:
    """What is odd about the development set."""
    shared = len(overlap([" ".join(tokens) for tokens in text.tokens], {" ".join(tokens) for tokens in dev.tokens}))
    strange = len(_strange(codecs, dev))
    return [
        *([f"{shared} training sentences also stand in the development set"] if shared else []),
        *([f"{strange} development tokens have labels that are not in the training part"] if strange else []),
    ]


def _strange(codecs: Codecs, text: LabelledText) -> list[str]:
    """The labels that have no id, token by token."""
    return [label for label in chain.from_iterable(text.labels) if codecs.target.vocabulary.id(label) == UNKNOWN]


def _fingerprint(data: Labelled, codecs: Codecs) -> str:
    files = [sha256(name) for word in data.train for name in expand_braces(word)]
    facts = [*files, codecs.source.fingerprint, codecs.target.fingerprint]
    return hashlib.sha256(msgspec.json.encode([facts, data.maximum_length])).hexdigest()


class LabellingValidator(Validator):
    """Labels the development set, its sentences shared out over the processes, each labelled once."""

    def __init__(
        self,
        task: LabellingTask,
        dev: LabelledText,
        model: nn.Module,
        place: ValidationContext,
        average: EvaluationWeights | None,
    ) -> None:
        """Raises ConfigError if the labels do not have the score `train.metric`, before any training."""
        super().__init__(model, place, average)
        if not isinstance(model, SequenceLabeller):
            raise TypeError("tokens are labelled by a labeller")
        self.labelling, self.codecs, self.dev = model, task.codecs, dev
        self.tokens, self.labels = token_ids(self.codecs.source, dev.tokens), token_ids(self.codecs.target, dev.labels)
        self.longest = longest_part(task.recipe, task.data)
        best, chosen = label_scores(dev.labels, dev.labels), task.recipe.train.metric
        self.metrics = [metric for metric in labelling_metrics().values() if metric.compute(best) is not None]
        if chosen in labelling_metrics() and chosen not in (metric.name for metric in self.metrics):
            what = f"the development set has no {chosen}: its labels mark no spans, as B-PER and I-PER do"
            raise ConfigError(what, f"set train.metric={self.metrics[0].name}")
        # The loss leaves out what training would leave out: one endless line must not end a run in its validation.
        self.scored = np.flatnonzero(self.tokens.lengths <= task.data.maximum_length)

    def loss(self, piece_done: Callable[[], object]) -> torch.Tensor:
        """This process's share of the sentences."""
        tokens, labels = self.tokens.take(self.scored), self.labels.take(self.scored)
        total = torch.zeros(3, dtype=torch.float64)
        for indices in length_batches(tokens.lengths, budget=BUDGET):
            mine = slice_of(indices, self.processes.rank, self.processes.world)
            if not len(mine):
                continue
            batch = label_batch(tokens, labels, mine).to(self.device)
            assert batch.source is not None  # labelled batches always have one
            tally = cross_entropy(self.labelling.features(batch.source), self.labelling.output, batch.targets)
            total += torch.stack([tally.objective, tally.nll, tally.tokens]).cpu().double()
            piece_done()
        return total

    def scores(self) -> Scores:
        """The scores that these labels have, and a few labelled sentences."""
        share = (self.processes.rank, self.processes.world)
        with self.together() as piece_done:
            predicted = label_batches(
                self.labelling,
                self.tokens,
                longest=self.longest,
                device=self.device,
                share=share,
                batch_done=piece_done,
            )
        self.processes.sum(torch.from_numpy(predicted.ids))  # each id is 0 in all processes but one
        labels = label_names(self.codecs.target, predicted)
        result = label_scores(labels, self.dev.labels)
        values = {metric.name: metric.compute(result) or 0.0 for metric in self.metrics}
        samples = [
            (" ".join(self.dev.tokens[i]), " ".join(self.dev.labels[i]), " ".join(labels[i]))
            for i in np.linspace(0, len(self.dev) - 1, num=min(SAMPLES, len(self.dev)), dtype=int).tolist()
        ]
        return Scores(values, result.signature, samples)
