"""Rules against plain implementations of what they say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.search import rules
from seqkit.search.hypothesis import BOS, EOS
from seqkit.search.rules import (
    Ban,
    MinimumLength,
    NoRepeat,
    Nucleus,
    Prefix,
    RepetitionPenalty,
    Rule,
    Temperature,
    TopK,
)
from seqkit.state import State, select

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)


def random_scores(rows: int, size: int, seed: int, *, banned: float = 0.0) -> Tensor:
    """Distinct scores, a share of them -inf, but at least one of each row not."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, size, generator=generator) * 3
    hidden = torch.rand(rows, size, generator=generator) < banned
    hidden[:, -1] = False
    return scores.masked_fill(hidden, -math.inf)


def random_ids(rows: int, length: int, size: int, seed: int) -> Tensor:
    ids = torch.randint(EOS, size, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = BOS
    return ids


def kept(scores: Tensor) -> list[set[int]]:
    return [set((row > -math.inf).nonzero()[:, 0].tolist()) for row in scores]


def unchanged_where_kept(before: Tensor, after: Tensor) -> bool:
    return bool(((after == before) | (after == -math.inf)).all())


def every_rule(rows: int, *, size: int, seed: int) -> list[Rule]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Temperature(0.7),
        TopK(3),
        Nucleus(0.6),
        RepetitionPenalty(1.5),
        NoRepeat(2),
        Ban((3, size - 1)),
        MinimumLength(torch.randint(0, 4, (rows,), generator=generator)),
        Prefix(torch.randint(-1, size, (rows, 3), generator=generator).sort(dim=1, descending=True).values),
    ]


@quick
@given(rows=st.integers(1, 5), size=st.integers(1, 200), count=st.integers(1, 30), seed=seeds)
def test_top_k_keeps_the_k_likeliest(rows: int, size: int, count: int, seed: int) -> None:
    scores = random_scores(rows, size, seed)
    found = TopK(count).apply(scores, torch.ones(rows, 1), None)
    expected = [set(sorted(range(size), key=lambda token: -row[token])[:count]) for row in scores.tolist()]
    assert kept(found) == expected
    assert unchanged_where_kept(scores, found)


def test_top_k_keeps_no_more_of_equals() -> None:
    assert [len(tokens) for tokens in kept(TopK(3).apply(torch.zeros(2, 9), torch.ones(2, 1), None))] == [3, 3]


@quick
@given(
    rows=st.integers(1, 6),
    size=st.integers(1, 120),
    mass=st.floats(0.01, 0.99),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    narrow=st.sampled_from([1, 4, 128]),
    seed=seeds,
)
def test_a_nucleus_is_the_fewest_tokens_of_enough_mass(
    rows: int, size: int, mass: float, scale: float, narrow: int, seed: int
) -> None:
    scores = random_scores(rows, size, seed, banned=0.2) * scale
    expected = []
    for row in scores.double().softmax(1).tolist():
        total, chosen = 0.0, set()
        for token in sorted(range(size), key=lambda token: -row[token]):
            assume(abs(total - mass) > 1e-5)
            if total >= mass:
                break
            chosen.add(token)
            total += row[token]
        expected.append(chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "NUCLEUS_TOKENS", narrow)
        found = Nucleus(mass).apply(scores, torch.ones(rows, 1), None)
    assert kept(found) == expected
    assert unchanged_where_kept(scores, found)


def test_a_nucleus_has_a_token_at_least_and_may_have_all() -> None:
    scores = random_scores(3, 50, 1)
    assert kept(Nucleus(1e-9).apply(scores, torch.ones(3, 1), None)) == [{int(row.argmax())} for row in scores]
    assert kept(Nucleus(1.0).apply(torch.zeros(3, 50), torch.ones(3, 1), None)) == [set(range(50))] * 3


def test_temperature_divides_log_probabilities() -> None:
    scores = random_scores(2, 7, 0).log_softmax(1)
    warmer = Temperature(2.0).apply(scores, torch.ones(2, 1), None).softmax(1)
    root = scores.exp().sqrt()
    assert torch.allclose(warmer, root / root.sum(1, keepdim=True))


@quick
@given(
    rows=st.integers(1, 4),
    size=st.integers(4, 12),
    length=st.integers(1, 15),
    factor=st.floats(1.0, 5.0),
    seed=seeds,
)
def test_a_penalty_falls_once_on_every_token_that_has_occurred(
    rows: int, size: int, length: int, factor: float, seed: int
) -> None:
    scores = random_scores(rows, size, seed, banned=0.2)
    ids = random_ids(rows, length, size, seed)
    expected = scores.tolist()
    for row, tokens in zip(expected, ids.tolist(), strict=True):
        for token in set(tokens) - {BOS, EOS}:
            row[token] *= factor if row[token] < 0 else 1 / factor
    found = RepetitionPenalty(factor).apply(scores, ids, None)
    assert torch.allclose(found, torch.tensor(expected))
    assert bool((found <= scores).all())


@quick
@given(rows=st.integers(1, 4), size=st.integers(4, 7), length=st.integers(1, 20), n=st.integers(1, 4), seed=seeds)
def test_what_would_repeat_an_ngram_is_forbidden_and_nothing_else(
    rows: int, size: int, length: int, n: int, seed: int
) -> None:
    scores = random_scores(rows, size, seed)
    ids = random_ids(rows, length, size, seed)
    found = NoRepeat(n).apply(scores, ids, None)
    for row, tokens in zip(kept(found), ids.tolist(), strict=True):
        seen = {tuple(tokens[at : at + n]) for at in range(length - n + 1)}
        repeats = {token for token in range(EOS + 1, size) if (*tokens[length - n + 1 :], token) in seen}
        assert row - {0} == set(range(1, size)) - repeats
    assert unchanged_where_kept(scores, found)


def test_bans_forbid_these_tokens_only() -> None:
    scores = random_scores(2, 6, 0)
    found = Ban((0, 4)).apply(scores, torch.ones(2, 1), None)
    assert kept(found) == [{1, 2, 3, 5}] * 2
    assert unchanged_where_kept(scores, found)


def walked(rule: Rule, scores: Tensor, steps: int) -> list[Tensor]:
    """What a rule makes of the same scores, step after step."""
    state = rule.start(len(scores))
    ids = torch.full((len(scores), 1), BOS)
    found = []
    for _ in range(steps):
        found.append(rule.apply(scores, ids, state))
        chosen = found[-1].argmax(1)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        state = rule.advance(chosen, state)
    return found


def test_an_end_has_to_wait_for_the_minimum_length_of_its_row() -> None:
    scores = random_scores(3, 5, 0)
    found = walked(MinimumLength(torch.tensor([0, 1, 3])), scores, 4)
    assert [[EOS in row for row in kept(step)] for step in found] == [
        [True, False, False],
        [True, True, False],
        [True, True, False],
        [True, True, True],
    ]
    assert all(unchanged_where_kept(scores, step) for step in found)
    assert all({0, 1, 3, 4} <= row for step in found for row in kept(step))


def test_a_prefix_is_forced_whatever_the_scores_and_then_lets_go() -> None:
    scores = torch.full((3, 6), -math.inf)
    scores[:, 5] = 1.0
    found = walked(Prefix(torch.tensor([[3, 2, 4], [4, -1, -1], [-1, -1, -1]])), scores, 5)
    assert [kept(step) for step in found] == [
        [{3}, {4}, {5}],
        [{2}, {5}, {5}],
        [{4}, {5}, {5}],
        [{5}, {5}, {5}],
        [{5}, {5}, {5}],
    ]


@pytest.mark.parametrize("index", range(8))
@quick
@given(seed=seeds)
def test_rules_treat_rows_alone_and_leave_what_they_are_given(index: int, seed: int) -> None:
    size, length = 9, 8
    rule = every_rule(5, size=size, seed=seed)[index]
    scores = random_scores(5, size, seed, banned=0.2)
    ids = random_ids(5, length, size, seed)
    copies = scores.clone(), ids.clone()
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 5, (7,), generator=generator)  # re-ordered, widened, dropped
    chosen = torch.randint(0, size, (5,), generator=generator)

    def two_steps(scores: Tensor, ids: Tensor, chosen: Tensor, state: State) -> tuple[Tensor, Tensor]:
        later = torch.cat([ids, chosen[:, None]], dim=1)
        return rule.apply(scores, ids, state), rule.apply(scores, later, rule.advance(chosen, state))

    state = rule.start(5)
    whole = two_steps(scores, ids, chosen, state)
    part = two_steps(scores[rows], ids[rows], chosen[rows], select(state, rows))
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[rows], other)
    assert torch.equal(scores, copies[0])
    assert torch.equal(ids, copies[1])
