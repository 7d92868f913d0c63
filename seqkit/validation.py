"""Scoring a model on the development set while it trains."""

from __future__ import annotations

import contextlib
import time

import msgspec
import numpy as np
import torch

from seqkit.data.batching import length_batches, slice_of
from seqkit.data.cleaning import too_long
from seqkit.data.corpora import ParallelText
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.decoding import search_many
from seqkit.errors import DataError
from seqkit.loss import Tally, cross_entropy
from seqkit.metrics.bleu import corpus_scores, exact_match
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Recipe
from seqkit.text.codec import Codecs
from seqkit.train.average import Average
from seqkit.train.distributed import Processes
from seqkit.train.trainer import Report

__all__ = ["Validator"]

SAMPLES = 3


class Validator:
    """Scores a model on the development set, its lines shared out over the processes, each scored once."""

    def __init__(
        self,
        recipe: Recipe,
        codecs: Codecs,
        *,
        model: EncoderDecoder,
        dev: ParallelText,
        processes: Processes,
        device: torch.device,
        average: Average | None,
    ) -> None:
        settings = recipe.train
        self.model, self.codecs, self.dev = model, codecs, dev
        self.processes, self.device, self.average = processes, device, average
        self.metric = settings.metric
        self.source = Encoded.from_lists(codecs.source.encode_many(dev.source))
        self.target = Encoded.from_lists(codecs.target.encode_many(dev.target))
        self.search = msgspec.structs.replace(recipe.search, beam=settings.validate_beam, nbest=1)
        if not len(dev):
            raise DataError("the development set has no usable pair")
        self.lines = min(len(dev), settings.validate_lines or len(dev))
        # The loss leaves out what training would leave out: one endless line must not end a run in its validation.
        long = too_long(self.source.lengths, self.target.lengths, recipe.data.maximum_length)
        self.scored = np.setdiff1d(np.arange(len(dev)), long)
        self.budget = max(settings.batch_tokens, recipe.data.maximum_length + 1)

    def __call__(self) -> Report:
        """Loss over all development pairs, scores and samples of the translations; the same on every process."""
        began = time.monotonic()
        was_training = self.model.training
        self.model.eval()
        with contextlib.nullcontext() if self.average is None else self.average.applied(), torch.no_grad():
            tally = self._loss()
            hypotheses = self._translations()
        self.model.train(was_training)
        references = self.dev.target[: self.lines]
        metrics = ("bleu", "chrf") if self.metric == "chrf" else ("bleu",)
        found = corpus_scores(hypotheses, [references], metrics=metrics, bootstrap=0)
        scores = {"loss": tally.loss, "exact": exact_match(hypotheses, [references])}
        scores |= dict(zip(metrics, (score.value for score in found), strict=True))
        samples = [
            (self.dev.source[i], self.dev.target[i], hypotheses[i])
            for i in np.linspace(0, self.lines - 1, num=min(SAMPLES, self.lines), dtype=int).tolist()
        ]
        return Report(tally, scores, found[0].signature, samples, time.monotonic() - began)

    def _loss(self) -> Tally:
        source, target = self.source.take(self.scored), self.target.take(self.scored)
        total = torch.zeros(3, dtype=torch.float64)
        lengths = np.maximum(source.lengths, target.lengths) + 1
        for indices in length_batches(lengths, budget=self.budget):
            mine = slice_of(indices, self.processes.rank, self.processes.world)
            if not len(mine):
                continue
            batch = translation_batch(source, target, mine).to(self.device)
            memory, state = self.model.start(batch.source)
            assert batch.inputs is not None  # translation batches always have them
            hidden = self.model.features(batch.inputs, memory, state).hidden
            tally = cross_entropy(hidden, self.model.output, batch.targets)
            total += torch.stack([tally.objective, tally.nll, tally.tokens]).cpu().double()
        self.processes.sum(total)
        return Tally(*total)

    def _translations(self) -> list[str]:
        order = np.argsort(self.source.lengths[: self.lines], kind="stable")
        mine = order[self.processes.rank :: self.processes.world].tolist()
        sources = [self.source[i].tolist() for i in mine]
        found = search_many(self.model, sources, self.search, device=self.device)
        texts = [self.codecs.target.decode(best[0].ids) if best else "" for best in found]
        results = [""] * self.lines
        for part in self.processes.gather(list(zip(mine, texts, strict=True))):
            for index, text in part:
                results[index] = text
        return results
