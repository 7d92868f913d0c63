"""Parallel text: pairs -> codecs, examples, batches, and validation by translating."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from seqkit.data.batching import length_batches, slice_of
from seqkit.data.cleaning import filter_examples, overlap, too_long
from seqkit.data.corpora import ParallelText, read_pairs
from seqkit.data.datasets import Encoded
from seqkit.data.loading import ExampleStream, translation_batch
from seqkit.engine.batch_search import BatchSearch
from seqkit.errors import DataError
from seqkit.files import expand_braces, sha256
from seqkit.loss import cross_entropy
from seqkit.metrics.table import DEFAULT_METRICS, translation_metrics
from seqkit.metrics.translation_scores import corpus_scores, exact_match
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.parameters import EvaluationWeights
from seqkit.parallel.processes import Processes
from seqkit.settings import Pairs, Recipe
from seqkit.tasks.resampling import Resample, replace_examples, resample
from seqkit.tasks.task import Scores, Task, ValidationContext, Validator
from seqkit.tasks.text_layer import text_layer
from seqkit.text.codec import Codecs
from seqkit.training.objective import Objective, build_objective
from seqkit.training.seeds import seed_of
from seqkit.training.trainer import ValidationReport

__all__ = ["Examples", "TranslationTask", "TranslationValidator", "encode", "prepare"]

SAMPLES = 3


class Examples(NamedTuple):
    """Training pairs as ids, without begin and end."""

    source: Encoded
    target: Encoded


class Resamplers(NamedTuple):
    """What cuts both sides at random."""

    source: Resample
    target: Resample


@dataclass(frozen=True)
class TranslationTask(Task):
    """Pairs to learn translation from."""

    data: Pairs
    examples: Examples  # the training pairs, encoded once
    resampled: Resamplers | None  # the same pairs cut at random, where every epoch is
    dev: ParallelText | None

    @property
    def summary(self) -> str:
        """Pairs, tokens and development pairs."""
        target = self.examples.target
        tokens = int(target.lengths.sum()) + len(target)
        dev = "no development set" if self.dev is None else f"{len(self.dev)} development pairs"
        return f"{len(target)} training pairs, {tokens} target tokens, {dev}"

    def stream(self, processes: Processes) -> ExampleStream:
        """Batches of pairs; with subword sampling every epoch is encoded anew."""
        return self.batches(translation_batch, self._examples, processes)

    def objective(self, model: nn.Module, device: torch.device) -> Objective:
        """Cross-entropy of the target."""
        return build_objective(self.recipe, model, device)

    def validator(
        self, model: nn.Module, place: ValidationContext, average: EvaluationWeights | None
    ) -> Callable[[], ValidationReport] | None:
        """Loss, BLEU and exact matches on the development set."""
        return None if self.dev is None else TranslationValidator(self, self.dev, model, place, average)

    def _examples(self, epoch: int) -> Examples:
        """An epoch's pairs; one that a sample makes too long keeps its unsampled form."""
        fixed, resampled = self.examples, self.resampled
        if resampled is None:
            return fixed
        seed = seed_of(self.recipe.train.seed, epoch)
        new = Examples(resampled.source(seed), resampled.target(seed))
        long = too_long(new.source.lengths, new.target.lengths, self.data.maximum_length)
        if not len(long):
            return new
        return Examples(
            replace_examples(new.source, fixed.source, long), replace_examples(new.target, fixed.target, long)
        )


def prepare(recipe: Recipe, data: Pairs, run: Path) -> TranslationTask:
    """Read and clean the text, learn the text layer (or take the run's own) and encode.

    What is left out is counted, never silent. The text layer is kept in `run/codec`.
    """
    text = read_pairs(data.train, bad_utf8=data.bad_utf8)
    dev = read_pairs(data.dev, bad_utf8=data.bad_utf8) if data.dev else None
    notes = _dropped(text, "training") + ([] if dev is None else _dropped(dev, "development"))
    codecs = text_layer(recipe.text, run / "codec", lambda: Codecs.learn(text.source, text.target, recipe.text))
    examples = encode(codecs, text)
    reasons = {"too long": too_long(examples.source.lengths, examples.target.lengths, data.maximum_length)}
    shared = overlap(text.source, dev.source) if dev is not None else np.zeros(0, dtype=np.int64)
    if data.drop_overlap:
        reasons["in the development set too"] = shared
    elif len(shared):
        notes.append(f"{len(shared)} training sources also stand in the development set (data.drop_overlap drops them)")
    kept = filter_examples(len(text), reasons)
    notes += [f"{count} training pairs dropped: {reason}" for reason, count in kept.dropped.items() if count]
    if not len(kept.indices):
        raise DataError("no usable training pair is left", "see the counts above, and data.maximum_length")
    if len(kept.indices) < len(text):
        examples = Examples(examples.source.take(kept.indices), examples.target.take(kept.indices))
    source, target = resample(codecs.source, examples.source), resample(codecs.target, examples.target)
    resampled = None if source is None or target is None else Resamplers(source, target)
    return TranslationTask(recipe, codecs, notes, _fingerprint(data, codecs), data, examples, resampled, dev)


def _dropped(text: ParallelText, part: str) -> list[str]:
    notes = [f"{count} {part} pairs dropped: {reason}" for reason, count in text.dropped.items() if count]
    return notes + ([f"{text.nul} NUL characters in the {part} text became spaces"] if text.nul else [])


def _fingerprint(data: Pairs, codecs: Codecs) -> str:
    files = [sha256(name) for word in data.train for name in expand_braces(word)]
    facts = [*files, codecs.source.fingerprint, codecs.target.fingerprint]
    rules = [data.maximum_length, data.bad_utf8, data.drop_overlap]
    return hashlib.sha256(msgspec.json.encode([facts, rules])).hexdigest()


def encode(codecs: Codecs, text: ParallelText) -> Examples:
    """Both sides as ids."""
    return Examples(
        Encoded.from_lists(codecs.source.encode_many(text.source)),
        Encoded.from_lists(codecs.target.encode_many(text.target)),
    )


class TranslationValidator(Validator):
    """Scores translations of the development set, its lines shared out over the processes, each scored once."""

    def __init__(
        self,
        task: TranslationTask,
        dev: ParallelText,
        model: nn.Module,
        place: ValidationContext,
        average: EvaluationWeights | None,
    ) -> None:
        super().__init__(model, place, average)
        if not isinstance(model, EncoderDecoder):
            raise TypeError("pairs are translated by an encoder-decoder")
        self.translating = model
        settings, longest = task.recipe.train, task.data.maximum_length
        self.codecs, self.dev = task.codecs, dev
        # The default metric is measured beside the chosen one, so that the curves of all runs can be compared.
        chosen = dict.fromkeys([DEFAULT_METRICS["translation"], settings.metric])
        self.metrics = [name for name in chosen if name in translation_metrics()]
        self.source = Encoded.from_lists(self.codecs.source.encode_many(dev.source))
        self.target = Encoded.from_lists(self.codecs.target.encode_many(dev.target))
        self.search = msgspec.structs.replace(task.recipe.search, beam=settings.validate_beam, nbest=1)
        if not len(dev):
            raise DataError("the development set has no usable pair")
        self.lines = min(len(dev), settings.validate_lines or len(dev))
        # The loss leaves out what training would leave out: one endless line must not end a run in its validation.
        long = too_long(self.source.lengths, self.target.lengths, longest)
        self.scored = np.setdiff1d(np.arange(len(dev)), long)
        self.budget = max(settings.budget, longest + 1)

    def loss(self, piece_done: Callable[[], object]) -> torch.Tensor:
        """Teacher forcing over this process's pairs."""
        source, target = self.source.take(self.scored), self.target.take(self.scored)
        total = torch.zeros(3, dtype=torch.float64)
        lengths = np.maximum(source.lengths, target.lengths) + 1
        for indices in length_batches(lengths, budget=self.budget):
            mine = slice_of(indices, self.processes.rank, self.processes.world)
            if not len(mine):
                continue
            batch = translation_batch(source, target, mine).to(self.device)
            memory, state = self.translating.start(batch.source)
            assert batch.inputs is not None  # translation batches always have them
            hidden = self.translating.features(batch.inputs, memory, state).hidden
            tally = cross_entropy(hidden, self.translating.output, batch.targets)
            total += torch.stack([tally.objective, tally.nll, tally.tokens]).cpu().double()
            piece_done()
        return total

    def scores(self) -> Scores:
        """BLEU and the chosen metric, exact matches of the translations, and a few of them."""
        hypotheses = self._translations()
        sources, references = self.dev.source[: self.lines], [self.dev.target[: self.lines]]
        scores = corpus_scores(hypotheses, references, sources=sources, metrics=self.metrics, resamples=0)
        values = {"exact": exact_match(hypotheses, references)}
        values |= {name: score.value for name, score in zip(self.metrics, scores, strict=True)}
        samples = [
            (self.dev.source[i], self.dev.target[i], hypotheses[i])
            for i in np.linspace(0, self.lines - 1, num=min(SAMPLES, self.lines), dtype=int).tolist()
        ]
        return Scores(values, scores[0].signature, samples)

    def _translations(self) -> list[str]:
        order = np.argsort(self.source.lengths[: self.lines], kind="stable")
        mine = order[self.processes.rank :: self.processes.world].tolist()
        sources = [self.source[i].tolist() for i in mine]
        with self.together() as piece_done:
            engine = BatchSearch(self.translating, device=self.device)
            nbest_lists = engine.search(sources, self.search, batch_done=piece_done)
        texts = [self.codecs.target.decode(best[0].ids) if best else "" for best in nbest_lists]
        results = [""] * self.lines
        for part in self.processes.gather(list(zip(mine, texts, strict=True))):
            for index, text in part:
                results[index] = text
        return results
