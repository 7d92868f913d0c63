"""Models, files and ways of scoring -> figures: what `seqkit perplexity` and `seqkit score` print."""

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
    dynamic_log_probs,
    pair_log_probs,
    stream_of,
    token_features,
    token_log_probs,
    words_of,
)
from seqkit.errors import ConfigError, ModelError
from seqkit.inference.mixing import FLATNESS, cache_log_probs, check_same_tokens, mix, tune
from seqkit.metrics.perplexity_figures import Perplexity, counts_of
from seqkit.models.language_model import LanguageModel
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Labelled, Stream
from seqkit.state import Scorable
from seqkit.system.device import device_of
from seqkit.tasks.language_task import context_of
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import EOS, UNKNOWN

__all__ = ["LineScore", "ScoredText", "ScoringOptions", "score_files"]

Values = NDArray[np.float64]
USUAL_FLATNESS = 0.3
SEGMENT = 64  # tokens between two steps of dynamic evaluation, where the data does not say


@dataclass(frozen=True)
class ScoringOptions:
    """How a text is scored; what is None was not asked for."""

    context: tuple[str, int | None, int | None] | None = None  # kind, size, overlap; None: as the model was trained
    weights: str | None = None  # numbers with commas, or tune:FILE
    cache: int | None = None
    flatness: float | None = None
    dynamic: float | None = None
    budget: int = 4096
    blank: bool = False  # score blank lines too, where a model of lines would leave them out


@dataclass(frozen=True)
class LineScore:
    """One line of a text."""

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
    """A text's figures and how they came about, in words."""

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
    """A text as one model family reads it."""

    lines: list[str]
    encoded: Encoded
    source: Encoded | None  # of translations
    notes: list[str]


def score_files(
    paths: Sequence[Path], files: Sequence[str], ways: ScoringOptions, *, device: str = "auto"
) -> ScoredText:
    """Score the text in `files` (a pair of files or a TSV for a translation model) by one model or a mixture.

    Raises ConfigError for ways that do not fit the models, ModelError for models with different tokens.
    """
    place = device_of(device)
    models = [load(path, device=place) for path in paths]
    check_same_tokens(models)
    text = _read(models[0], files, ways)
    parts, names = _parts(models, text, ways, place)
    weights, flatness = _weights(models, parts, names, ways, place)
    if ways.cache is not None:
        parts = [*parts, _cache(models, text, parts[0], ways, place, flatness)]
        names = [*names, f"cache of {ways.cache} tokens (flatness {flatness:g})"]
    values = parts[0] if len(parts) == 1 else mix(parts, weights)
    unknown = int((text.encoded.ids == UNKNOWN).sum())
    mixture = ", ".join(f"{weight:.3f} {name}" for weight, name in zip(weights, names, strict=True))
    tuning = _tuning(ways)
    tuned = "" if tuning is None else f" (tuned on {tuning})"
    return ScoredText(
        models=[str(path) for path in paths],
        figures=Perplexity(-float(values.sum()), len(values), unknown, counts_of(text.lines)),
        context="; ".join(dict.fromkeys(_context_words(model, ways) for model in models)),
        lines=_lines(models[0].codecs.target, text, values),
        weights=weights if len(parts) > 1 else [],
        mixture=mixture + tuned if len(parts) > 1 else "",
        dynamic="" if ways.dynamic is None else f"goes on learning from what it has scored, rate {ways.dynamic:g}",
        notes=text.notes,
    )


def _lines(codec: Codec, text: _Text, values: Values) -> list[LineScore]:
    """The values of a text shared out over its lines."""
    ends = text.encoded.offsets[1:] + np.arange(1, len(text.lines) + 1)
    each = np.split(values, ends[:-1])
    return [
        LineScore(i + 1, line, (*codec.tokens(text.encoded[i].tolist()), codec.tokens([EOS])[0]), tuple(own.tolist()))
        for i, (line, own) in enumerate(zip(text.lines, each, strict=True))
    ]


def _read(model: TrainedModel, files: Sequence[str], ways: ScoringOptions) -> _Text:
    codecs = model.codecs
    if isinstance(model.model, EncoderDecoder):
        pairs = read_pairs(files, keep_blank=ways.blank)
        notes = [f"{count} pairs left out: {reason}" for reason, count in pairs.dropped.items() if count]
        source, target = (
            Encoded.from_lists(codec.encode_many(side))
            for codec, side in ((codecs.source, pairs.source), (codecs.target, pairs.target))
        )
        return _Text(pairs.target, target, source, notes)
    keep_blank = ways.blank or isinstance(model.recipe.data, Stream)
    text = read_text(files, bad_utf8="skip", keep_blank=keep_blank)
    notes = [f"{count} lines left out: {reason}" for reason, count in text.dropped.items() if count]
    encoded = Encoded.from_lists(codecs.target.encode_many(text.lines))
    tokens = len(encoded.ids) + len(encoded)
    if isinstance(context := _context(model, ways), Blocks) and tokens < context.size:
        notes.append(f"the text has {tokens} tokens, less than one block of {context.size}")
    return _Text(text.lines, encoded, None, notes)


def _context(model: TrainedModel, ways: ScoringOptions) -> Context:
    if ways.context is None:
        return context_of(model.recipe)
    kind, size, overlap = ways.context
    if kind == "lines" or kind == "whole":
        return cast(Context, kind)
    assert size is not None
    return Blocks(size, size // 2 if overlap is None else overlap)


def _context_words(model: TrainedModel, ways: ScoringOptions) -> str:
    return (
        "each translation given its source"
        if isinstance(model.model, EncoderDecoder)
        else words_of(_context(model, ways))
    )


def _tuning(ways: ScoringOptions) -> str | None:
    """The file on which weights are tuned."""
    word = ways.weights or ""
    return word.removeprefix("tune:") if word.startswith("tune:") else None


def _parts(
    models: Sequence[TrainedModel], text: _Text, ways: ScoringOptions, place: torch.device
) -> tuple[list[Values], list[str]]:
    """What each model gives to each token."""
    parts = []
    for loaded in models:
        model, context = loaded.model, _context(loaded, ways)
        if isinstance(model, EncoderDecoder) != (text.source is not None) or isinstance(loaded.recipe.data, Labelled):
            raise ModelError(f"{loaded.path} does not predict this kind of text", "mix models of one kind")
        if isinstance(model, EncoderDecoder):
            assert text.source is not None
            if ways.context or ways.cache or ways.dynamic is not None:
                raise ConfigError("contexts, caches and dynamic evaluation are for language models", "leave them out")
            parts.append(pair_log_probs(model, text.source, text.encoded, device=place, budget=ways.budget))
        elif ways.dynamic is not None and isinstance(model, LanguageModel):
            data = loaded.recipe.data
            segment = data.window if isinstance(data, Stream) else SEGMENT
            parts.append(
                dynamic_log_probs(model, text.encoded, context, rate=ways.dynamic, segment=segment, device=place)
            )
        else:
            scorable = cast(Scorable, model)
            parts.append(token_log_probs(scorable, text.encoded, context, device=place, budget=ways.budget))
    if ways.dynamic is not None and not any(isinstance(loaded.model, LanguageModel) for loaded in models):
        raise ConfigError("counted models do not learn while they are scored", "leave out --dynamic")
    return parts, [str(loaded.path) for loaded in models]


def _weights(
    models: Sequence[TrainedModel],
    parts: Sequence[Values],
    names: Sequence[str],
    ways: ScoringOptions,
    place: torch.device,
) -> tuple[list[float], float]:
    """The weights of models and cache, and the cache's flatness, as given or tuned."""
    count = len(parts) + (ways.cache is not None)
    flatness = USUAL_FLATNESS if ways.flatness is None else ways.flatness
    if count == 1:
        if ways.weights is not None:
            raise ConfigError("--weights are for mixtures", "name several models, RUN+RUN, or give --cache")
        return [1.0], flatness
    if ways.weights is None:
        raise ConfigError(
            f"a mixture of {count} parts needs weights",
            "give them, --weights 0.6,0.4, or tune them: --weights tune:DEV",
        )
    tuning_file = _tuning(ways)
    if tuning_file is None:
        try:
            given = [float(word) for word in ways.weights.split(",")]
        except ValueError:
            raise ConfigError(f"--weights {ways.weights} are no numbers", "write 0.6,0.4 or tune:FILE") from None
        return given, flatness
    held_out = _read(models[0], [tuning_file], ways)
    tuning, _ = _parts(models, held_out, ways, place)
    if ways.cache is None:
        return tune(tuning), flatness
    best: tuple[float, list[float], float] | None = None
    for candidate in (flatness,) if ways.flatness is not None else FLATNESS:
        every = [*tuning, _cache(models, held_out, tuning[0], ways, place, candidate)]
        weights = tune(every)
        value = float(mix(every, weights).sum())
        if best is None or value > best[0]:
            best = value, weights, candidate
    assert best is not None
    return best[1], best[2]


def _cache(
    models: Sequence[TrainedModel],
    text: _Text,
    base: Values,
    ways: ScoringOptions,
    place: torch.device,
    flatness: float,
) -> Values:
    """A cache over the features of the first neural model; over bare counts where there is none."""
    neural = next((loaded for loaded in models if isinstance(loaded.model, LanguageModel)), None)
    hidden = None
    if neural is not None and isinstance(neural.model, LanguageModel) and flatness > 0:
        context = _context(neural, ways)
        hidden = token_features(neural.model, text.encoded, context, device=place, budget=ways.budget)
    assert ways.cache is not None
    return cache_log_probs(hidden, stream_of(text.encoded), base, size=ways.cache, flatness=flatness)
