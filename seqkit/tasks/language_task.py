"""Text in one language: lines -> codec, tokens, batches, and validation by perplexity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from seqkit.data.corpora import MonolingualText, read_text
from seqkit.data.datasets import Encoded
from seqkit.data.loading import line_batch
from seqkit.data.windows import Partition, WindowStream, usable_rows
from seqkit.engine.token_scores import Blocks, Context, token_log_probs, token_stream
from seqkit.errors import ConfigError, DataError
from seqkit.files import expand_braces, sha256
from seqkit.parallel.parameters import EvaluationWeights
from seqkit.parallel.processes import Processes
from seqkit.settings import Lines, Recipe, Stream
from seqkit.state import Scorable
from seqkit.tasks.resampling import Resample, replace_examples, resample
from seqkit.tasks.task import Scores, Task, ValidationContext, Validator
from seqkit.tasks.text_layer import text_layer
from seqkit.text.codec import Codecs
from seqkit.training.objective import Objective, build_objective
from seqkit.training.reading import TrainingStream
from seqkit.training.seeds import seed_of
from seqkit.training.trainer import ValidationReport

__all__ = ["LanguageTask", "LanguageValidator", "context_of", "partition_of", "prepare", "sequences"]


def partition_of(recipe: Recipe, data: Stream) -> Partition:
    """How a stream is cut: one after the other where the model carries a state from window to window."""
    if data.partition != "auto":
        return data.partition
    return "sequential" if recipe.model.carries_state else "random"


def context_of(recipe: Recipe) -> Context:
    """What a model scores together, unless told otherwise: as it was trained."""
    data = recipe.data
    if not isinstance(data, Stream):
        return "lines"
    if not recipe.model.trained or partition_of(recipe, data) == "sequential":
        return "whole"
    return Blocks(data.window, data.window // 2)


@dataclass(frozen=True)
class LanguageTask(Task):
    """Lines to learn a language model from."""

    data: Stream | Lines
    lines: Encoded  # the training lines, encoded once
    resampled: Resample | None  # the same lines cut at random, where every epoch is
    dev: MonolingualText | None

    @property
    def summary(self) -> str:
        """Lines, tokens and development lines."""
        tokens = len(self.lines.ids) + len(self.lines)
        dev = "no development text" if self.dev is None else f"{len(self.dev)} development lines"
        return f"{len(self.lines)} training lines, {tokens} tokens, {dev}"

    def stream(self, processes: Processes) -> TrainingStream:
        """Windows of one stream, or batches of lines."""
        settings, data = self.recipe.train, self.data
        if isinstance(data, Stream):
            return WindowStream(
                token_stream(self.lines),
                rows=settings.budget // data.window,
                window=data.window,
                partition=partition_of(self.recipe, data),
                carries=self.recipe.model.carries_state,
                accumulate=settings.accumulate,
                seed=settings.seed,
                rank=processes.rank,
                world=processes.world,
            )
        return self.batches(line_batch, self._examples, processes)

    def objective(self, model: nn.Module, device: torch.device) -> Objective:
        """Cross-entropy of every token."""
        return build_objective(self.recipe, model, device)

    def validator(
        self, model: nn.Module, place: ValidationContext, average: EvaluationWeights | None
    ) -> Callable[[], ValidationReport] | None:
        """Perplexity on the development text."""
        return None if self.dev is None else LanguageValidator(self, self.dev, model, place, average)

    def _examples(self, epoch: int) -> tuple[Encoded, Encoded]:
        """An epoch's lines; one that a sample makes too long keeps its unsampled form."""
        if self.resampled is None:
            return self.lines, self.lines
        new = self.resampled(seed_of(self.recipe.train.seed, epoch))
        longest = self.data.maximum_length if isinstance(self.data, Lines) else 0
        lines = replace_examples(new, self.lines, np.flatnonzero(new.lengths > longest))
        return lines, lines


def prepare(recipe: Recipe, data: Stream | Lines, run: Path) -> LanguageTask:
    """Read the text, learn the text layer (or take the run's own) and encode; what is left out is counted."""
    blank = isinstance(data, Stream)  # in a stream a blank line is a line's end like any other
    text = read_text(data.train, bad_utf8=data.bad_utf8, keep_blank=blank)
    if not any(line.strip() for line in text.lines):
        raise DataError(f"all lines of {' '.join(data.train)} are blank", "look at the files")
    dev = read_text(data.dev, bad_utf8=data.bad_utf8, keep_blank=blank) if data.dev else None
    notes = [*_dropped(text, "training"), *([] if dev is None else _dropped(dev, "development"))]
    joint = msgspec.structs.replace(recipe.text, joint=True)
    codecs = text_layer(recipe.text, run / "codec", lambda: Codecs.learn(text.lines, [], joint))
    lines = Encoded.from_lists(codecs.target.encode_many(text.lines))
    if isinstance(data, Lines):
        kept = np.flatnonzero(lines.lengths <= data.maximum_length)
        if len(kept) < len(lines):
            notes.append(f"{len(lines) - len(kept)} training lines dropped: too long")
            if not len(kept):
                raise DataError("no usable training line is left", "raise data.maximum_length")
            lines = lines.take(kept)
    else:
        notes += _fitting(recipe, data, lines)
    resampled = resample(codecs.target, lines)
    if resampled is not None and blank:
        raise ConfigError(
            "a stream is encoded once, and text.sampling asks for a new encoding every epoch",
            'set text.sampling=0, or data.kind="lines"',
        )
    return LanguageTask(recipe, codecs, notes, _fingerprint(data, codecs), data, lines, resampled, dev)


def _dropped(text: MonolingualText, part: str) -> list[str]:
    notes = [f"{count} {part} lines dropped: {reason}" for reason, count in text.dropped.items() if count]
    return notes + ([f"{text.nul} NUL characters in the {part} text became spaces"] if text.nul else [])


def _fitting(recipe: Recipe, data: Stream, lines: Encoded) -> list[str]:
    """What is to be said of a text that cannot fill a batch; counted models have no batches."""
    if not recipe.model.trained:
        return []
    rows, tokens = recipe.train.budget // data.window, len(lines.ids) + len(lines)
    usable = usable_rows(tokens, rows=rows, window=data.window)
    if tokens < data.window:
        return [f"the text has {tokens} tokens, less than one window of {data.window}: a batch is one shorter row"]
    if usable < rows:
        return [f"the text has {tokens} tokens: a batch has {usable} rows of {data.window} instead of {rows}"]
    return []


def _fingerprint(data: Stream | Lines, codecs: Codecs) -> str:
    files = [sha256(name) for word in data.train for name in expand_braces(word)]
    rules = [data.bad_utf8, data.maximum_length if isinstance(data, Lines) else 0]
    return hashlib.sha256(msgspec.json.encode([[*files, codecs.target.fingerprint], rules])).hexdigest()


def sequences(task: LanguageTask) -> list[NDArray[np.int32]]:
    """What a counted model counts: one sequence, or one for each line, `</s>` included."""
    stream = token_stream(task.lines)
    if isinstance(task.data, Stream):
        return [stream]
    ends = task.lines.offsets[1:] + np.arange(1, len(task.lines) + 1)
    return np.split(stream, ends[:-1])


class LanguageValidator(Validator):
    """Scores the development text as `seqkit perplexity` does: the same context, the same figure."""

    def __init__(
        self,
        task: LanguageTask,
        dev: MonolingualText,
        model: nn.Module,
        place: ValidationContext,
        average: EvaluationWeights | None,
    ) -> None:
        super().__init__(model, place, average)
        self.scoring: Scorable = model  # type: ignore[assignment]  # every language model is one
        self.dev = Encoded.from_lists(task.codecs.target.encode_many(dev.lines))
        self.context = context_of(task.recipe)

    def loss(self, piece_done: Callable[[], object]) -> torch.Tensor:
        """This process's share of the text."""
        share, device = (self.processes.rank, self.processes.world), self.device
        values = token_log_probs(
            self.scoring, self.dev, self.context, device=device, share=share, batch_done=piece_done
        )
        nll, tokens = -float(values.sum()), len(values) if self.processes.first else 0
        return torch.tensor([nll, nll, tokens], dtype=torch.float64)

    def scores(self) -> Scores:
        """Nothing besides the loss, from which every figure follows."""
        return Scores({})
