"""Labelled text: sentences -> codecs, ids, batches, and validation by accuracy and F1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
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
from seqkit.errors import ConfigError, DataError
from seqkit.files import expand_braces, sha256
from seqkit.loss import cross_entropy
from seqkit.metrics.label_scores import label_scores
from seqkit.metrics.table import labelling_metrics
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.parallel.parameters import EvaluationWeights
from seqkit.parallel.processes import Processes
from seqkit.settings import Labelled, Recipe, TransformerLabeller, Words
from seqkit.tasks.task import Scores, Task, ValidationContext, Validator
from seqkit.tasks.text_layer import text_layer
from seqkit.text.codec import Codec, Codecs
from seqkit.text.vocabulary import SPECIAL_TOKENS, UNKNOWN
from seqkit.training.labelling_objective import LabellingObjective
from seqkit.training.objective import Objective, build_objective
from seqkit.training.trainer import ValidationReport

__all__ = ["LabellingTask", "LabellingValidator", "encode", "longest_piece", "predict", "prepare", "spell"]

LABELS = Words(split="spaces", normalise=(), joint=False)  # how labels become ids: all are kept, as they are written
SAMPLES = 3
BUDGET = 4096  # tokens labelled at a time


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
    tokens, labels = encode(codecs.source, text.tokens), encode(codecs.target, text.labels)
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


def encode(codec: Codec, sentences: Sequence[Sequence[str]]) -> Encoded:
    """Sentences that are cut already as ids, one for each token; what the codec would cut further is unknown."""
    distinct = list(dict.fromkeys(chain.from_iterable(sentences)))
    found = zip(distinct, codec.encode_many(distinct), strict=True)
    ids = {token: own[0] if len(own) == 1 else UNKNOWN for token, own in found}
    return Encoded.from_lists([ids[token] for token in sentence] for sentence in sentences)


def spell(codec: Codec, labels: Encoded) -> list[list[str]]:
    """The labels that ids stand for."""
    names = codec.tokens(labels.ids.tolist())
    return [names[begin:end] for begin, end in pairwise(labels.offsets.tolist())]


def longest_piece(recipe: Recipe, data: Labelled) -> int:
    """How many tokens a model reads at once: twice what was trained on, as far as there are positions for them."""
    longest, model = 2 * data.maximum_length, recipe.model
    if isinstance(model, TransformerLabeller) and model.positions == "learned":
        longest = min(longest, model.maximum_positions - 1)  # `</s>` has one too
    return max(longest, 1)


@torch.no_grad()
def predict(
    model: SequenceLabeller,
    tokens: Encoded,
    *,
    longest: int,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
    batch_done: Callable[[], object] | None = None,
) -> Encoded:
    """The most probable label of each token; sentences of more than `longest` tokens are read in pieces.

    `share` (rank, world) labels this process's part of the batches only and leaves the ids of the rest at 0.
    `batch_done` is called after each batch and may raise to leave the rest.
    """
    found = np.zeros(len(tokens.ids), dtype=np.int32)
    pieces = _pieces(tokens, longest)
    for indices in length_batches(pieces.lengths, budget=BUDGET):
        mine = slice_of(indices, *share)
        if not len(mine):
            continue
        batch = label_batch(pieces, pieces, mine)
        assert batch.source is not None  # labelled batches always have one
        ids = model.predict(batch.source.to(device)).cpu().numpy()
        counted = batch.targets.mask.numpy()
        places = pieces.offsets[mine][:, None] + np.arange(ids.shape[1])
        found[places[counted]] = ids[counted]
        if batch_done is not None:
            batch_done()
    return Encoded(found, tokens.offsets)


def _pieces(tokens: Encoded, longest: int) -> Encoded:
    """The same tokens, end to end, cut more often; sentences without tokens are gone."""
    long = np.flatnonzero(tokens.lengths > longest)
    cuts = [np.arange(tokens.offsets[i], tokens.offsets[i + 1], longest) for i in long]
    return Encoded(tokens.ids, np.unique(np.concatenate([tokens.offsets, *cuts])))


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
        self.tokens, self.labels = encode(self.codecs.source, dev.tokens), encode(self.codecs.target, dev.labels)
        self.longest = longest_piece(task.recipe, task.data)
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
            found = predict(
                self.labelling,
                self.tokens,
                longest=self.longest,
                device=self.device,
                share=share,
                batch_done=piece_done,
            )
        self.processes.sum(torch.from_numpy(found.ids))  # each id is 0 in all processes but one
        labels = spell(self.codecs.target, found)
        result = label_scores(labels, self.dev.labels)
        values = {metric.name: metric.compute(result) or 0.0 for metric in self.metrics}
        samples = [
            (" ".join(self.dev.tokens[i]), " ".join(self.dev.labels[i]), " ".join(labels[i]))
            for i in np.linspace(0, len(self.dev) - 1, num=min(SAMPLES, len(self.dev)), dtype=int).tolist()
        ]
        return Scores(values, result.signature, samples)
