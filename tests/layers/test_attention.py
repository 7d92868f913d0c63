"""Attention against its formula, written out; weights that are probabilities; beams that are folded, not copied."""

from __future__ import annotations

import math
from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqkit.layers.attention import (
    KeyValues,
    MultiHeadAttention,
    ScoreFunction,
    SourceAttention,
    fold,
    masked_softmax,
    unfold,
)
from seqkit.layers.masks import length_mask
from seqkit.layers.positions import rotate

close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
MASK = length_mask(torch.tensor([5, 1]), 5)
SCORES: tuple[ScoreFunction, ...] = get_args(ScoreFunction)


def attention(score: ScoreFunction) -> SourceAttention:
    torch.manual_seed(0)
    return SourceAttention(score, query=3, source=4, width=6).double()


def heads(count: int = 2, *, rotary: bool = False, dropout: float = 0.0) -> MultiHeadAttention:
    torch.manual_seed(0)
    module = MultiHeadAttention(width=8, heads=count, rotary=rotary, dropout=dropout).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(module: MultiHeadAttention, x: Tensor, source: Tensor, allowed: Tensor, start: int = 0) -> Tensor:
    """softmax(Q K' / sqrt(d)) V, a head at a time: x (N, T, D), source (N, S, D), allowed (N, T, S)."""
    query, key, value = module.query(x), module.key(source), module.value(source)
    size = x.shape[2] // module.heads
    outs = []
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[..., part], key[..., part], value[..., part]
        if module.rotary:
            q, k = rotate(q[:, None], start)[:, 0], rotate(k[:, None])[:, 0]
        scores = q @ k.transpose(1, 2) / math.sqrt(size)
        outs.append(scores.masked_fill(~allowed, -math.inf).softmax(2) @ v)
    joined: Tensor = module.output(torch.cat(outs, dim=2))
    return joined


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_folding_lays_the_rows_of_a_sentence_side_by_side(sentences: int, beam: int, steps: int) -> None:
    x = torch.randn(sentences * beam, steps, 2)
    folded = fold(x, sentences)
    assert folded.shape == (sentences, beam * steps, 2)
    for row in range(len(x)):
        k = row % beam
        assert torch.equal(folded[row // beam, k * steps : (k + 1) * steps], x[row])
    assert torch.equal(unfold(folded, len(x)), x)


def test_masked_weights_sum_to_one_over_real_positions() -> None:
    weights = masked_softmax(random(2, 3, 5) * 100, MASK[:, None])
    close(weights.sum(2), torch.ones(2, 3, dtype=torch.float64))
    assert (weights[1, :, 1:] == 0).all()


def test_a_row_with_nothing_to_attend_to_is_zero_and_not_nan() -> None:
    scores = random(1, 4).requires_grad_()
    weights = masked_softmax(scores, torch.zeros(1, 4, dtype=torch.bool))
    assert (weights == 0).all()
    (gradient,) = torch.autograd.grad(weights.sum(), scores)
    assert (gradient == 0).all()


@pytest.mark.parametrize("score", SCORES)
def test_single_vector_weights_are_the_softmax_of_the_score(score: ScoreFunction) -> None:
    module, values, queries = attention(score), random(2, 5, 4), random(2, 3, 3)
    scores = torch.empty(2, 3, 5, dtype=torch.float64)
    for b in range(2):
        for t in range(3):
            for s in range(5):
                q, k = module.query(queries[b, t]), module.key(values[b, s])
                raw = torch.tanh(q + k) @ module.vector if module.vector is not None else q @ k / math.sqrt(len(k))
                scores[b, t, s] = raw
    expected = scores.masked_fill(~MASK[:, None], -math.inf).softmax(2)
    memory = module.prepare(values, MASK)
    close(module.weights(queries, memory), expected)
    close(module(queries, memory), expected @ values)


@pytest.mark.parametrize("score", SCORES)
def test_a_beam_attends_as_its_rows_would_alone(score: ScoreFunction) -> None:
    module, values, queries = attention(score), random(2, 5, 4), random(6, 3, 3)
    copied = module.prepare(values.repeat_interleave(3, 0), MASK.repeat_interleave(3, 0))
    close(module(queries, module.prepare(values, MASK)), module(queries, copied))


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_attention_over_a_source_is_its_formula(count: int, rotary: bool) -> None:
    module, x = heads(count, rotary=rotary), random(2, 5, 8)
    allowed = MASK[:, None].expand(-1, 5, -1)
    close(module.bidirectional(x, MASK), by_hand(module, x, x, allowed))


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_over_the_past_is_its_formula_however_it_is_cut(rotary: bool) -> None:
    module, x = heads(rotary=rotary), random(2, 6, 8)
    expected = by_hand(module, x, x, torch.ones(6, 6, dtype=torch.bool).tril().expand(2, -1, -1))
    for cuts in ((), (1,), (2, 5), (1, 2, 3, 4, 5)):
        past: KeyValues | None = None
        outs = []
        for piece in x.tensor_split(cuts, dim=1):
            out, past = module.causal(piece, past)
            outs.append(out)
        close(torch.cat(outs, dim=1), expected)
        assert past is not None
        assert past.length == 6


def test_attention_over_memory_is_its_formula_for_each_row_of_a_beam() -> None:
    module, x, source = heads(), random(6, 3, 8), random(2, 5, 8, seed=2)
    rows = torch.arange(2).repeat_interleave(3)
    expected = by_hand(module, x, source[rows], MASK[rows][:, None].expand(-1, 3, -1))
    close(module.cross(x, module.prepare(source, MASK)), expected)


def test_reported_weights_are_those_that_were_used() -> None:
    """With one head, the weights give back the output."""
    module, x, source = heads(1), random(6, 3, 8), random(2, 5, 8, seed=2)
    memory = module.prepare(source, MASK)
    weights = module.weights(x, memory)
    close(weights.sum(2), torch.ones(6, 3, dtype=torch.float64))
    assert (weights[3:, :, 1:] == 0).all()
    contexts = weights @ module.value(source).repeat_interleave(3, 0)
    close(module.output(contexts), module.cross(x, memory))


def test_a_bias_on_keys_would_change_nothing() -> None:
    """Which is why there is none."""
    module, x = heads(), random(2, 5, 8)
    before = module.bidirectional(x, MASK)
    query, key, value = module._project(x, start=0)
    shifted = module._attend(query, key + 3.0, value, MASK[:, None, None])
    close(module._join(shifted), before)


def test_dropout_on_weights_is_for_training_only() -> None:
    module, x = heads(dropout=0.5), random(2, 5, 8)
    torch.manual_seed(0)
    assert torch.equal(module.bidirectional(x, MASK), module.bidirectional(x, MASK))
    assert not torch.equal(module.train().bidirectional(x, MASK), module.eval().bidirectional(x, MASK))
