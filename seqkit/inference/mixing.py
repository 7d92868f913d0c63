"""Several predictions of one text as one: linear interpolation, its weights tuned on held-out text, and a neural cache.

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

FLATNESS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)  # what is tried where the cache's sharpness is tuned
ROWS = 256  # tokens whose caches are weighed at one time


def check_same_tokens(models: Sequence[TrainedModel]) -> None:
    """Refuse models that cut text into different tokens, naming some that only one of two has. Raises ModelError."""
    first, *others = models
    own = first.codecs.target
    for other in others:
        codec = other.codecs.target
        if codec.plain_fingerprint == own.plain_fingerprint:
            continue
        left, right = set(own.vocabulary.tokens), set(codec.vocabulary.tokens)
        odd = sorted(left ^ right)[:5]
        what = f"{first.path} and {other.path} cut text into different tokens"
        detail = f": only one of them has {', '.join(map(repr, odd))}" if odd else ""
        raise ModelError(what + detail, f'train one with text.from="{first.path}" so that they share a text layer')


def mix(parts: Sequence[Values], weights: Sequence[float]) -> Values:
    """The log-probabilities of the weighted mean of several distributions (Jelinek and Mercer, 1980): (tokens,).

    Raises ConfigError unless there is one weight, not below 0, for each part, 1 in all.
    """
    if len(weights) != len(parts) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"{len(parts)} parts cannot have the weights {shown}", "give one for each, 1 in all")
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
        done = np.abs(new - weights).max() < 1e-7
        weights = new
        if done:
            break
    return list(map(float, weights / weights.sum()))


def cache_log_probs(
    hidden: NDArray[np.float32] | None, stream: NDArray[np.int32], base: Values, *, size: int, flatness: float
) -> Values:
    """What the last `size` tokens say of the next one, by a continuous cache (Grave et al., 2017): (tokens,).

    A token is as probable as the share of the remembered places where it stood, each place weighed by
    exp(flatness * its features . the present ones): hidden (tokens, D), or None for equal weights. Where nothing is
    remembered yet the prediction is `base`.
    """
    if size < 1:
        raise ConfigError(f"a cache of {size} tokens remembers nothing", "give --cache 500, say")
    found = np.empty(len(stream), dtype=np.float64)
    for begin in range(0, len(stream), ROWS):
        now = np.arange(begin, min(begin + ROWS, len(stream)))
        past = np.arange(max(0, begin - size), now[-1])
        known = (past < now[:, None]) & (past >= now[:, None] - size)  # (rows, places)
        if hidden is None or flatness == 0:
            shares = known.astype(np.float64)
        else:
            scores = flatness * (hidden[now] @ hidden[past].T).astype(np.float64)
            scores[~known] = -np.inf
            shares = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-1e300)) * known
        hits = (shares * (stream[past] == stream[now][:, None])).sum(axis=1)
        totals = shares.sum(axis=1)
        with np.errstate(divide="ignore"):
            found[now] = np.where(totals > 0, np.log(hits / np.maximum(totals, 1e-300)), base[now])
    return found
