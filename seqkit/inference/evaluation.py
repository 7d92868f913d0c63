"""Models, files and scoring options -> figures: what `seqkit perplexity` and `seqkit score` print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from seqkit.data.corpora import read_pairs, read_text
from seqkit.data.datasets import Encoded
from seqkit.engine.token_scores import (
    Blocks,
    Context,
    describe_context,
    dynamic_log_probs,
    pair_log_probs,
    token_features,
    token_log_probs,
    token_stream,
)
from seqkit.errors import ConfigError, ModelError
from seqkit.inference.mixing import FLATNESS, cache_log_probs, check_same_tokens, mix, tune
from seqkit.metrics.perplexity_figures import Perplexity, counts_of
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Stream
from seqkit.state import Scorable, Trainable
from seqkit.system.device import device_of
from seqkit.tasks.language_task import context_of
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import EOS, UNKNOWN

__all__ = ["LineScore", "ScoredText", "ScoringOptions", "score_files"]

Values = NDArray[np.float64]
DEFAULT_FLATNESS = 0.3  # of the cache, where it is not tuned
SEGMENT = 64  # tokens between two steps of dynamic evaluation, for data without a window


@dataclass(frozen=True)
class ScoringOptions:
    """How a text is scored; None leaves a method out."""

    context: tuple[str, int | None, int | None] | None = None  # kind, size, overlap; None: as the model was trained
    weights: str | None = None  # of the mixture: numbers with commas, or tune:FILE
    cache: int | None = None  # tokens of a neural cache
    flatness: float | None = None  # of the cache; None: tuned with the weights, or the default
    dynamic: float | None = None  # learning rate of dynamic evaluation
    budget: int = 4096  # tokens of a batch
    blank: bool = False  # score blank lines too, where a model of lines would leave them out

    @property
    def tuning_file(self) -> str | None:
        """The file on which the weights are tuned."""
        word = self.weights or ""
        return word.removeprefix("tune:") if word.startswith("tune:") else None


@dataclass(frozen=True)
class LineScore:
    """A line of a text with the log-probability of each of its tokens."""

    number: int  # from 1
    text: str
    pieces: tuple[str, ...]  # its tokens, the end included
    log_probs: tuple[float, ...]  # one a token, in nats

    @property
    def tokens(self) -> int:
        """How many tokens it has, its end included."""
        return len(self.pieces)

    @property
    def log_prob(self) -> float:
        """The sum over its tokens, in nats."""
        return math.fsum(self.log_probs)

    @property
    def perplexity(self) -> float:
        """exp(-log_prob / tokens)."""
        mean = -self.log_prob / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


@dataclass(frozen=True)
class ScoredText:
    """A text's figures, and in words how it was scored."""

    models: list[str]
    figures: Perplexity
    context: str
    lines: list[LineScore]
    weights: list[float] = field(default_factory=list)
    mixture: str = ""
    dynamic: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Text:
    """A text as the models read it."""

    lines: list[str]
    encoded: Encoded
    source: Encoded | None  # for translation models
    notes: list[str]


def score_files(
    paths: Sequence[Path], files: Sequence[str], options: ScoringOptions, *, device: str = "auto"
) -> ScoredText:
    """Score the text in `files` (a pair of files or a TSV for a translation model) by one model or a mixture.

    Raises ConfigError for options that do not fit the models, ModelError for models with different tokens.
    """
    resolved = device_of(device)
    models = [load(path, device=resolved) for path in paths]
    check_same_tokens(models)
    scorer = _Scorer(models, options, resolved)
    text = scorer.read(files)
    parts, names = scorer.log_probs(text), [str(model.path) for model in models]
    weights, flatness = scorer.weights()
    if options.cache is not None:
        parts.append(scorer.cache_log_probs(text, parts[0], options.cache, flatness))
        names.append(f"cache of {options.cache} tokens (flatness {flatness:g})")
    values = parts[0] if len(parts) == 1 else mix(parts, weights)
    unknown = int((text.encoded.ids == UNKNOWN).sum())
    mixture = ", ".join(f"{weight:.3f} {name}" for weight, name in zip(weights, names, strict=True))
    tuned = "" if options.tuning_file is None else f" (tuned on {options.tuning_file})"
    return ScoredText(
        models=[str(path) for path in paths],
        figures=Perplexity(-float(values.sum()), len(values), unknown, counts_of(text.lines)),
        context="; ".join(dict.fromkeys(scorer.context_words(model) for model in models)),
        lines=_lines(models[0].codecs.target, text, values),
        weights=weights if len(parts) > 1 else [],
        mixture=mixture + tuned if len(parts) > 1 else "",
        dynamic=""
        if options.dynamic is None
        else f"goes on learning from what it has scored, rate {options.dynamic:g}",
        notes=text.notes,
    )


def _lines(codec: Codec, text: _Text, values: Values) -> list[LineScore]:
    """The values of a text, divided among its lines."""
    ends = text.encoded.offsets[1:] + np.arange(1, len(text.lines) + 1)
    return [
        LineScore(i + 1, line, (*codec.tokens(text.encoded[i].tolist()), codec.tokens([EOS])[0]), tuple(part.tolist()))
        for i, (line, part) in enumerate(zip(text.lines, np.split(values, ends[:-1]), strict=True))
    ]


@dataclass(frozen=True)
class _Scorer:
    """Models with the same tokens, and how they score a text."""

    models: Sequence[TrainedModel]
    options: ScoringOptions
    device: torch.device

    def read(self, files: Sequence[str]) -> _Text:
        """Read and encode a text, by the text layer and the data settings of the first model."""
        model, options = self.models[0], self.options
        codecs = model.codecs
        if model.purpose == "translation":
            pairs = read_pairs(files, keep_blank=options.blank)
            notes = [f"{count} pairs left out: {reason}" for reason, count in pairs.dropped.items() if count]
            source, target = (
                Encoded.from_lists(codec.encode_many(side))
                for codec, side in ((codecs.source, pairs.source), (codecs.target, pairs.target))
            )
            return _Text(pairs.target, target, source, notes)
        keep_blank = options.blank or isinstance(model.recipe.data, Stream)
        text = read_text(files, bad_utf8="skip", keep_blank=keep_blank)
        notes = [f"{count} lines left out: {reason}" for reason, count in text.dropped.items() if count]
        encoded = Encoded.from_lists(codecs.target.encode_many(text.lines))
        tokens = len(encoded.ids) + len(encoded)
        if isinstance(context := self._context(model), Blocks) and tokens < context.size:
            notes.append(f"the text has {tokens} tokens, less than one block of {context.size}")
        return _Text(text.lines, encoded, None, notes)

    def context_words(self, model: TrainedModel) -> str:
        """In words, what a model scores together."""
        if model.purpose == "translation":
            return "each translation given its source"
        return describe_context(self._context(model))

    def log_probs(self, text: _Text) -> list[Values]:
        """The log-probabilities of a text's tokens by each model. Raises ModelError if one is for other texts."""
        purpose = "language" if text.source is None else "translation"
        parts = []
        for model in self.models:
            if model.purpose != purpose:
                raise ModelError(f"{model.path} does not predict this kind of text", "mix models of one kind")
            parts.append(self._log_probs(model, text))
        if self.options.dynamic is not None and not any(model.recipe.model.trained for model in self.models):
            raise ConfigError("counted models do not learn while they are scored", "leave out --dynamic")
        return parts

    def _log_probs(self, loaded: TrainedModel, text: _Text) -> Values:
        options, model, data = self.options, loaded.model, loaded.recipe.data
        scorable = cast(Scorable, model)
        if text.source is not None:
            if options.context or options.cache or options.dynamic is not None:
                raise ConfigError("contexts, caches and dynamic evaluation are for language models", "leave them out")
            return pair_log_probs(scorable, text.source, text.encoded, device=self.device, budget=options.budget)
        context = self._context(loaded)
        if options.dynamic is not None and loaded.recipe.model.trained:
            segment = data.window if isinstance(data, Stream) else SEGMENT
            return dynamic_log_probs(
                model, text.encoded, context, rate=options.dynamic, segment=segment, device=self.device
            )
        return token_log_probs(scorable, text.encoded, context, device=self.device, budget=options.budget)

    def weights(self) -> tuple[list[float], float]:
        """The weights of models and cache, and the cache's flatness, as given or tuned."""
        options = self.options
        count = len(self.models) + (options.cache is not None)
        flatness = DEFAULT_FLATNESS if options.flatness is None else options.flatness
        if count == 1:
            if options.weights is not None:
                raise ConfigError("--weights are for mixtures", "name several models, RUN+RUN, or give --cache")
            return [1.0], flatness
        if options.weights is None:
            raise ConfigError(
                f"a mixture of {count} parts needs weights",
                "give them, --weights 0.6,0.4, or tune them: --weights tune:DEV",
            )
        if options.tuning_file is not None:
            return self._tune(options.tuning_file, flatness)
        try:
            return [float(word) for word in options.weights.split(",")], flatness
        except ValueError:
            raise ConfigError(f"--weights {options.weights} are no numbers", "write 0.6,0.4 or tune:FILE") from None

    def _tune(self, file: str, flatness: float) -> tuple[list[float], float]:
        """The weights, and unless it is given the flatness, under which a held-out text is most probable."""
        text = self.read([file])
        parts = self.log_probs(text)
        if self.options.cache is None:
            return tune(parts), flatness
        best: tuple[float, list[float], float] | None = None
        for candidate in (flatness,) if self.options.flatness is not None else FLATNESS:
            every = [*parts, self.cache_log_probs(text, parts[0], self.options.cache, candidate)]
            weights = tune(every)
            value = float(mix(every, weights).sum())
            if best is None or value > best[0]:
                best = value, weights, candidate
        assert best is not None
        return best[1], best[2]

    def cache_log_probs(self, text: _Text, base: Values, size: int, flatness: float) -> Values:
        """Those of a cache over the features of the first neural model, or over bare counts where there is none."""
        neural = next((loaded for loaded in self.models if loaded.recipe.model.trained), None)
        hidden = None
        if neural is not None and flatness > 0:
            model, context = cast(Trainable, neural.model), self._context(neural)
            hidden = token_features(model, text.encoded, context, device=self.device, budget=self.options.budget)
        return cache_log_probs(hidden, token_stream(text.encoded), base, size=size, flatness=flatness)

    def _context(self, model: TrainedModel) -> Context:
        """What is scored together: as the options say, else as the model was trained."""
        if self.options.context is None:
            return context_of(model.recipe)
        kind, size, overlap = self.options.context
        if kind == "lines" or kind == "whole":
            return cast(Context, kind)
        assert size is not None
        return Blocks(size, size // 2 if overlap is None else overlap)
