"""Mixtures are distributions, their weights are the best ones, and a cache is what its formula says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from seqkit.errors import ConfigError, ModelError
from seqkit.inference.mixing import cache_log_probs, check_same_tokens, mix, tune
from seqkit.runs.trained_model import TrainedModel
from seqkit.settings import SentencePiece
from seqkit.text import Codec, Codecs

Weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=4).map(lambda ws: [w / sum(ws) for w in ws])


def distributions(parts: int, tokens: int, vocabulary: int, seed: int) -> NDArray[np.float64]:
    """Random log-probabilities: (parts, tokens, vocabulary)."""
    logits = np.random.default_rng(seed).normal(0, 3, (parts, tokens, vocabulary))
    log_probs: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return log_probs


@given(Weights, st.integers(0, 2**32 - 1))
def test_a_mixture_of_distributions_is_one(weights: list[float], seed: int) -> None:
    logs = distributions(len(weights), 5, 7, seed)
    mixed = np.stack([mix(list(logs[:, :, word]), weights) for word in range(7)])
    np.testing.assert_allclose(np.exp(mixed).sum(0), 1, rtol=1e-12)


@given(Weights, st.integers(0, 2**32 - 1))
def test_copies_of_a_model_are_the_model_and_a_weight_of_one_is_its_part(weights: list[float], seed: int) -> None:
    logs = distributions(2, 9, 3, seed)[:, :, 0]
    np.testing.assert_allclose(mix([logs[0]] * len(weights), weights), logs[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mix(list(logs), [0.0, 1.0]), logs[1], rtol=1e-12)


def test_improbable_tokens_do_not_underflow() -> None:
    far = np.array([-2000.0, -np.inf])
    near = np.array([-1999.0, -2.0])
    assert mix([far, near], [0.5, 0.5])[0] == pytest.approx(-1999 + np.log((1 + np.exp(-1)) / 2))
    assert mix([far, near], [0.5, 0.5])[1] == pytest.approx(-2 + np.log(0.5))


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.6], [1.5, -0.5], [0.2, 0.3, 0.5]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="2 parts"):
        mix([np.zeros(3), np.zeros(3)], weights)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_tuned_weights_are_the_best_of_a_grid(seed: int) -> None:
    parts = list(distributions(2, 40, 5, seed)[:, :, 0])
    found = tune(parts, rounds=2000)
    best = max(mix(parts, [share, 1 - share]).sum() for share in np.linspace(0, 1, 201))
    assert mix(parts, found).sum() >= best - 0.01
    assert sum(found) == pytest.approx(1)


def obvious(hidden: np.ndarray | None, stream: list[int], base: np.ndarray, size: int, flatness: float) -> list[float]:
    values = []
    for now, token in enumerate(stream):
        past = range(max(0, now - size), now)
        weights = [1.0 if hidden is None else float(np.exp(flatness * hidden[now] @ hidden[i])) for i in past]
        hits = sum(weight for weight, i in zip(weights, past, strict=True) if stream[i] == token)
        values.append(np.log(hits / sum(weights)) if hits else (base[now] if not weights else -np.inf))
    return values


@settings(max_examples=60)
@given(
    st.lists(st.integers(2, 5), min_size=1, max_size=30),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.booleans(),
    st.data(),
)
def test_the_cache_is_its_formula(
    stream: list[int], size: int, flatness: float, features: bool, data: st.DataObject
) -> None:
    shape = (len(stream), 3)
    drawn = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-3, 3, width=32)))
    hidden = drawn if features else None
    base = np.linspace(-1, -2, len(stream))
    found = cache_log_probs(hidden, np.array(stream, dtype=np.int32), base, size=size, flatness=flatness)
    used = None if flatness == 0 else hidden
    np.testing.assert_allclose(found, obvious(used, stream, base, size, flatness), rtol=1e-4, atol=1e-5)


def test_the_cache_is_the_same_over_a_border_of_its_blocks() -> None:
    random = np.random.default_rng(0)
    stream = random.integers(2, 6, 700).astype(np.int32)
    hidden = random.normal(0, 0.5, (700, 4)).astype(np.float32)
    base = np.full(700, -1.0)
    found = cache_log_probs(hidden, stream, base, size=300, flatness=0.7)
    np.testing.assert_allclose(found, obvious(hidden, stream.tolist(), base, 300, 0.7), rtol=1e-4, atol=1e-5)


def test_how_text_was_sampled_in_training_keeps_no_models_apart() -> None:
    lines = ["the lower the newest", "low lower lowest newer newest"] * 4

    def loaded(texts: list[str], sampling: float) -> TrainedModel:
        codec = Codec.learn(texts, SentencePiece(size=290, sampling=sampling))
        return cast(TrainedModel, SimpleNamespace(path=Path(f"run{sampling}"), codecs=Codecs(codec, codec)))

    plain, sampled = loaded(lines, 0.0), loaded(lines, 0.1)
    assert plain.codecs.target.fingerprint != sampled.codecs.target.fingerprint
    check_same_tokens([plain, sampled, loaded(lines, 0.2)])
    check_same_tokens([sampled, plain])
    with pytest.raises(ModelError, match=r"run0\.1 and run0\.3 cut text into different tokens"):
        check_same_tokens([sampled, loaded([line.replace("w", "v") for line in lines], 0.3)])
