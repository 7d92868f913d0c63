"""Forced scoring: the model's own probabilities, whatever the chunks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkit.errors import DataError
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import BOS, EOS
from tests.support.search import Recurrent, Table, random_table, sources

targets = st.lists(st.lists(st.integers(0, 8), max_size=6), min_size=12, max_size=12)


def test_every_token_has_the_probability_of_the_table() -> None:
    table = random_table(6, 0)
    [empty, scored] = forced_scores(Table(table), None, [[], [4, 3]], length_reward=1.0)
    assert empty.log_probs == pytest.approx([math.log(table[BOS, EOS])], abs=1e-5)
    expected = [math.log(table[last, token]) for last, token in [(BOS, 4), (4, 3), (3, EOS)]]
    assert scored.log_probs == pytest.approx(expected, abs=1e-5)
    assert scored.log_prob == pytest.approx(sum(expected), abs=1e-5)
    assert scored.score == pytest.approx(sum(expected) / 3, abs=1e-5)


@settings(max_examples=15, deadline=None)
@given(targets=targets, positions=st.integers(1, 100), seed=st.integers(0, 100))
def test_chunks_and_neighbours_change_nothing(targets: list[list[int]], positions: int, seed: int) -> None:
    model = Recurrent(size=9, seed=seed)
    source = sources([2, 6, 4], size=9)
    scored = forced_scores(model, source, targets, positions=positions)
    for sentence in range(3):
        alone = sources([2, 6, 4], size=9)
        own = type(alone)(alone.ids[sentence : sentence + 1], alone.mask[sentence : sentence + 1])
        for place in range(4):
            [expected] = forced_scores(model, own, [targets[4 * sentence + place]])
            assert scored[4 * sentence + place].log_probs == pytest.approx(expected.log_probs, abs=1e-5)


def test_logits_stay_within_the_limit() -> None:
    model = Recurrent(size=9, seed=0)
    forced_scores(model, None, [[3] * length for length in (6, 1, 2, 3, 4, 50, 6)], positions=20)
    assert model.calls == [2 * 7, 3 * 5, 51, 7]  # one target alone may be longer than the limit


@pytest.mark.parametrize("count", [1, 5])
def test_targets_must_be_shared_out_evenly(count: int) -> None:
    with pytest.raises(DataError, match=f"{count} targets") as caught:
        forced_scores(Recurrent(size=9, seed=0), sources([2, 3], size=9), [[3]] * count)
    assert caught.value.hint is not None


def test_nothing_to_score() -> None:
    assert forced_scores(Table(random_table(6, 0)), None, []) == []
    assert forced_scores(Recurrent(size=9, seed=0), sources([2, 3], size=9), []) == []


def test_an_impossible_token_has_no_probability() -> None:
    table = random_table(5, 0)
    table[BOS, 3] = 0
    [scored] = forced_scores(Table(table / table.sum(1, keepdim=True)), None, [[3]])
    assert scored.log_prob == -math.inf
    assert torch.isfinite(torch.tensor(scored.log_probs[1:])).all()
