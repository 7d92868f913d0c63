"""Mixtures of predictions of one text: linear interpolation, its weights tuned on held-out text, and a neural cache.

Everything here works on the log-probabilities that each model gave to each token of the same text, (tokens,), so it
costs nothing beside the models, and any models with the same tokens can be mixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import ConfigError, ModelError
from seqkit.runs.trained_model import TrainedModel

__all__ = ["FLATNESS", "cache_log_probs", "check_same_tokens", "mix", "tune"]

Values = NDArray[np.float64]

FLATNESS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)  # candidates among which that of the cache is tuned
ROWS = 256  # tokens that are compared with their caches at one time


def check_same_tokens(models: Sequence[TrainedModel]) -> None:
    """Refuse models that cut text into different tokens, naming some that only one of two has. Raises ModelError."""
    first, *others = models
    expected = first.codecs.target
    for other in others:
        codec = other.codecs.target
        if codec.plain_fingerprint == expected.plain_fingerprint:
            continue
        unshared = sorted(set(expected.vocabulary.tokens) ^ set(codec.vocabulary.tokens))[:5]
        what = f"{first.path} and {other.path} cut text into different tokens"
        detail = f": only one of them has {', '.join(map(repr, unshared))}" if unshared else ""
        raise ModelError(what + detail, f'train one with text.from="{first.path}" so that they share a text layer')


def mix(parts: Sequence[Values], weights: Sequence[float]) -> Values:
    """The log-probabilities of the weighted mean of several distributions (Jelinek and Mercer, 1980): (tokens,).

    Raises ConfigError unless there is one weight, not below 0, for each part, 1 in all.
    """
    if len(weights) != len(parts) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        numbers = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"{len(parts)} parts cannot have the weights {numbers}", "give one for each, 1 in all")
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(weights))[:, None] + np.stack(parts)
    highest = logs.max(axis=0)
    mixed: Values = highest + np.log(np.exp(logs - highest).sum(axis=0))
    return mixed


def tune(parts: Sequence[Values], *, rounds: int = 200) -> list[float]:
    """The weights under which a held-out text is most probable, by expectation maximisation."""
    logs = np.stack(parts)  # (parts, tokens)
    shifted = np.exp(logs - logs.max(axis=0))
    weights = np.full(len(parts), 1 / len(parts))
    for _ in range(rounds):
        joint = weights[:, None] * shifted
        new = (joint / joint.sum(axis=0)).mean(axis=1)
        converged = np.abs(new - weights).max() < 1e-7
        weights = new
        if converged:
            break
    return list(map(float, weights / weights.sum()))


def cache_log_probs(
    hidden: NDArray[np.float32] | None, stream: NDArray[np.int32], base: Values, *, size: int, flatness: float
) -> Values:
    """Log-probabilities by a continuous cache of the last `size` tokens (Grave et al., 2017): (tokens,).

    A token's probability is its share of the positions in the cache, each weighted by exp(flatness * h_i . h_t):
    `hidden` holds h, (tokens, D); None gives equal weights. Where the cache is empty the prediction is `base`. Raises
    ConfigError for a size below 1.
    """
    if size < 1:
        raise ConfigError(f"a cache of {size} tokens remembers nothing", "give --cache 500, say")
    log_probs = np.empty(len(stream), dtype=np.float64)
    for begin in range(0, len(stream), ROWS):
        current = np.arange(begin, min(begin + ROWS, len(stream)))
        past = np.arange(max(0, begin - size), current[-1])
        cached = (past < current[:, None]) & (past >= current[:, None] - size)  # (rows, positions)
        if hidden is None or flatness == 0:
            shares = cached.astype(np.float64)
        else:
            scores = flatness * (hidden[current] @ hidden[past].T).astype(np.float64)
            scores[~cached] = -np.inf
            shares = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e300)) * cached
        hits = (shares * (stream[past] == stream[current][:, None])).sum(axis=1)
        totals = shares.sum(axis=1)
        with np.errstate(divide="ignore"):
            log_probs[current] = np.where(totals > 0, np.log(hits / np.maximum(totals, 1e-300)), base[current])
    return log_probs
