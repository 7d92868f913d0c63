"""Search against an exhaustive oracle, and its independence of everything that is only an optimisation."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, ModelError
from seqkit.search import Hypothesis, beam
from seqkit.search.beam import _NBestList
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import BOS, EOS, length_normalised
from seqkit.settings import Search
from seqkit.state import Decodable, Memory, State, Step
from tests.support.search import Recurrent, Table, exhaustive, probabilities, random_table, sources

A, B, C = 3, 4, 5
quick = settings(max_examples=20, deadline=None)


def one_by_one(model: Decodable, source: Padded, search: Search) -> list[list[Hypothesis]]:
    """The same sentences, each in a batch of its own and without padding."""
    found = []
    for ids, mask in zip(source.ids, source.mask, strict=True):
        size = int(mask.sum())
        found += beam(model, Padded(ids[None, :size], mask[None, :size]), search)
    return found


def greedy(model: Decodable, source: Padded | None, *, maximum: int) -> Hypothesis:
    """The textbook loop."""
    memory, state = model.start(source)
    last, total = BOS, 0.0
    ids: list[int] = []
    while len(ids) < maximum:
        logits, state = model.advance(torch.tensor([[last]]), memory, state)
        log_p = logits[0, -1].log_softmax(0)
        log_p[:EOS] = -math.inf
        last = int(log_p.argmax())
        total += float(log_p[last])
        if last == EOS:
            return Hypothesis(tuple(ids), total, total / (len(ids) + 1), finished=True)
        ids.append(last)
    return Hypothesis(tuple(ids), total, total / len(ids), finished=False)


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert [(h.ids, h.finished) for h in mine] == [(h.ids, h.finished) for h in other]
        assert [h.log_prob for h in mine] == pytest.approx([h.log_prob for h in other], abs=1e-4)
        assert [h.score for h in mine] == pytest.approx([h.score for h in other], abs=1e-4)


def assert_sound(found: list[Hypothesis], search: Search) -> None:
    """What every result of a search must be."""
    assert 1 <= len(found) <= search.nbest
    assert len({(h.ids, h.finished) for h in found}) == len(found)
    assert [(not h.finished, -h.score) for h in found] == sorted((not h.finished, -h.score) for h in found)
    for hypothesis in found:
        assert math.isfinite(hypothesis.score)
        assert all(token > EOS for token in hypothesis.ids)
        assert len(hypothesis.ids) + hypothesis.finished <= search.maximum_length
        if hypothesis.finished:
            assert len(hypothesis.ids) >= search.minimum_length


@pytest.mark.parametrize("minimum", [0, 2])
@pytest.mark.parametrize("reward", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("nbest", [1, 3])
def test_a_beam_wider_than_the_search_space_finds_the_optimum(minimum: int, reward: float, nbest: int) -> None:
    for seed in range(5):
        table = random_table(5, seed)
        search = Search(beam=625, nbest=nbest, length_reward=reward, minimum_length=minimum, maximum_length=4)
        expected = exhaustive(table, maximum=4, minimum=minimum, reward=reward)[:nbest]
        [found] = beam(Table(table), None, search)
        assert [h.ids for h in found] == [ids for ids, _ in expected]
        assert [h.score for h in found] == pytest.approx([value for _, value in expected], abs=1e-4)
        assert all(h.finished for h in found)


@quick
@given(seed=st.integers(0, 1000), size=st.integers(4, 40), end_bias=st.sampled_from([-1.0, 1.0, 3.0]))
def test_a_beam_of_one_is_greedy(seed: int, size: int, end_bias: float) -> None:
    model = Recurrent(size=size, seed=seed, end_bias=end_bias)
    source = sources([3], size=size, seed=seed)
    search = Search(beam=1, maximum_length=12)
    assert_same(beam(model, source, search), [[greedy(model, source, maximum=12)]])


@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("reward", [0.0, 1.0])
@quick
@given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), width=st.integers(1, 6))
def test_neighbours_in_the_batch_change_nothing(
    begins: bool, reward: float, seed: int, lengths: list[int], width: int
) -> None:
    model = Recurrent(size=11, seed=seed, begins=begins, end_bias=1.0)
    source = sources(lengths, size=11, seed=seed)
    search = Search(beam=width, nbest=width, length_reward=reward, maximum_ratio=1.5, maximum_extra=3)
    found = beam(model, source, search)
    assert_same(found, one_by_one(model, source, search))
    for hypotheses in found:
        assert_sound(hypotheses, search)


@pytest.mark.parametrize(
    "search",
    [
        Search(beam=1),
        Search(beam=4, nbest=4, patience=0),
        Search(beam=4, nbest=2, patience=1, length_reward=0.5),
        Search(beam=4, nbest=4, groups=2),
        Search(beam=3, repetition_penalty=1.3, no_repeat=2),
    ],
    ids=["greedy", "to-the-end", "patience", "diverse", "rules"],
)
@pytest.mark.parametrize("size", [11, pytest.param(300, marks=pytest.mark.slow)])
def test_whether_finished_sentences_are_dragged_along_makes_no_difference(
    search: Search, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Recurrent(size=size, seed=3, end_bias=1.0 if size == 11 else 4.0)
    source = sources([2 + index % 9 for index in range(24)], size=size, seed=3)
    found, rows = [], []
    for slack in (-1.0, 1.0):  # each leaves at once; none leaves before the last
        monkeypatch.setattr(sys.modules["seqkit.search.beam"], "DEAD_SHARE", slack)
        model.rows_advanced = 0
        found.append(beam(model, source, search))
        rows.append(model.rows_advanced)
    assert_same(*found)
    assert_same(found[1], one_by_one(model, source, search))
    assert rows[0] < rows[1]


def test_finished_sentences_leave_the_batch() -> None:
    model = Recurrent(size=11, seed=0, end_bias=-50.0)  # every sentence is cut at its own maximum
    search = Search(beam=2, maximum_ratio=1.0, maximum_extra=1)
    found = beam(model, sources([3, 31], size=11), search)
    assert [len(h.ids) for [h] in found] == [3, 31]
    assert model.rows_advanced == 2 + 2 * (2 * 2) + 28 * 2


@pytest.mark.parametrize("reward", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("nbest", [1, 2, 4])
def test_stopping_early_loses_nothing(reward: float, nbest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recurrent(size=9, seed=4, end_bias=2.0)
    source = sources([2, 5, 3, 8], size=9)
    search = Search(beam=4, nbest=nbest, length_reward=reward, maximum_length=30, patience=0.0)
    stopped = beam(model, source, search)
    rows, model.rows_advanced = model.rows_advanced, 0
    monkeypatch.setattr(
        _NBestList, "is_final", lambda results, best, length: length >= results.maximum or best == -math.inf
    )
    assert_same(stopped, beam(model, source, search))
    assert rows <= model.rows_advanced
    if reward == 0 and nbest == 1:
        assert rows < model.rows_advanced / 2


@pytest.mark.parametrize("nbest", [1, 4])
def test_a_late_winner_is_waited_for(nbest: int) -> None:
    """`A </s>` ends first, at a mean of log .3; `B B B </s>` ends later and is better."""
    table = probabilities(
        {BOS: {A: 0.4, B: 0.35, C: 0.25}, A: {EOS: 0.225, A: 0.025, C: 0.75}, B: {B: 0.8, EOS: 0.2}, C: {C: 1.0}},
        size=6,
    )
    search = Search(beam=4, nbest=nbest, length_reward=1.0, maximum_length=4)
    [found] = beam(Table(table), None, search)
    assert found[0].ids == (B, B, B)
    assert found[0].score == pytest.approx(math.log(0.35 * 0.8 * 0.8 * 0.2) / 4, abs=1e-5)
    assert nbest == 1 or (A,) in [h.ids for h in found]


def test_endings_do_not_starve_what_goes_on() -> None:
    """Both rows of the beam would rather end; the continuations behind the endings must still be followed."""
    table = probabilities({BOS: {A: 0.5, B: 0.5}, A: {EOS: 0.6, C: 0.4}, B: {EOS: 0.6, C: 0.4}, C: {EOS: 1.0}}, size=6)
    [found] = beam(Table(table), None, Search(beam=2, nbest=2, length_reward=2.0, maximum_length=9))
    assert {h.ids for h in found} == {(A, C), (B, C)}


def test_an_ending_behind_the_beam_does_not_count() -> None:
    """`A </s>` is only the third of the candidates: a beam of two would not have kept it."""
    table = probabilities({BOS: {A: 1.0}, A: {A: 0.5, B: 0.4, EOS: 0.1}, B: {EOS: 1.0}}, size=6)
    [found] = beam(Table(table), None, Search(beam=2, nbest=2, length_reward=0.0, maximum_length=4))
    assert [h.ids for h in found] == [(A, B), (A, A, B)]


@pytest.mark.parametrize("width", [1, 4])
def test_scores_are_true(width: int) -> None:
    model = Recurrent(size=13, seed=8, end_bias=1.0)
    source = sources([4, 1, 7, 2], size=13)
    search = Search(beam=width, nbest=width, length_reward=0.6, maximum_length=15)
    found = beam(model, source, search)
    assert all(len(hypotheses) == width for hypotheses in found)
    scored = forced_scores(model, source, [h.ids for hypotheses in found for h in hypotheses], length_reward=0.6)
    for hypothesis, forced in zip([h for hypotheses in found for h in hypotheses], scored, strict=True):
        log_probs = forced.log_probs if hypothesis.finished else forced.log_probs[:-1]
        assert hypothesis.log_prob == pytest.approx(sum(log_probs), abs=1e-4)
        assert hypothesis.score == pytest.approx(
            length_normalised(sum(log_probs), length=len(log_probs), reward=0.6), abs=1e-4
        )


@quick
@given(
    seed=st.integers(0, 1000),
    size=st.integers(3, 8),
    zeros=st.floats(0, 0.9),
    width=st.integers(1, 20),
    nbest=st.integers(1, 20),
    minimum=st.integers(0, 4),
)
def test_any_table_gives_sound_results(
    seed: int, size: int, zeros: float, width: int, nbest: int, minimum: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = random_table(size, seed) * (torch.rand(size, size, generator=generator) >= zeros)
    table[:, BOS] += 1e-6  # no row without any probability
    search = Search(beam=width, nbest=min(nbest, width), minimum_length=minimum, maximum_length=6)
    for found in beam(Table(table / table.sum(1, keepdim=True)), None, search, sentences=2):
        assert_sound(found, search)


def test_fewer_hypotheses_than_asked_for() -> None:
    table = probabilities({BOS: {A: 0.7, EOS: 0.3}, A: {EOS: 1.0}}, size=4)
    [found] = beam(Table(table), None, Search(beam=50, nbest=50, length_reward=0.0))
    assert [(h.ids, h.finished) for h in found] == [((A,), True), ((), True)]


def test_where_nothing_may_follow_the_beginning_comes_back() -> None:
    table = probabilities({BOS: {EOS: 1.0}}, size=4)
    assert beam(Table(table), None, Search(beam=2, minimum_length=1)) == [[Hypothesis((), 0.0, 0.0, finished=False)]]


@pytest.mark.parametrize("width", [1, 3])
def test_a_model_that_never_ends_is_cut(width: int) -> None:
    table = probabilities({BOS: {A: 0.6, B: 0.4}, A: {A: 0.6, B: 0.4}, B: {A: 0.6, B: 0.4}}, size=5)
    [found] = beam(Table(table), None, Search(beam=width, nbest=width, maximum_length=7))
    assert len(found) == width
    assert all(len(h.ids) == 7 and not h.finished for h in found)
    assert found[0].score == pytest.approx(math.log(0.6), abs=1e-5)


def test_cut_hypotheses_only_fill_up() -> None:
    table = probabilities({BOS: {A: 1.0}, A: {A: 0.9, EOS: 0.1}}, size=4)
    [found] = beam(Table(table), None, Search(beam=2, nbest=2, maximum_length=2))
    assert [(h.ids, h.finished) for h in found] == [((A,), True), ((A, A), False)]
    [found] = beam(Table(table), None, Search(beam=2, nbest=1, maximum_length=2))
    assert [(h.ids, h.finished) for h in found] == [((A,), True)]


def test_the_maximum_follows_the_source() -> None:
    model = Recurrent(size=9, seed=1, end_bias=-50.0)
    source = sources([1, 2, 5, 40], size=9)  # 0, 1, 4 and 39 without </s>
    lengths = [len(h.ids) for [h] in beam(model, source, Search(beam=2, maximum_ratio=1.5, maximum_extra=0))]
    assert lengths == [1, 2, 6, 59]
    lengths = [len(h.ids) for [h] in beam(model, source, Search(beam=2, maximum_length=6, maximum_extra=3))]
    assert lengths == [3, 5, 6, 6]


def test_padding_and_the_beginning_are_never_generated() -> None:
    table = random_table(6, 3)
    table[:, :EOS] += 20
    [found] = beam(Table(table / table.sum(1, keepdim=True)), None, Search(beam=3, nbest=3, maximum_length=5))
    assert all(token > EOS for h in found for token in h.ids)


def test_sentences_without_a_source() -> None:
    search = Search(beam=3, nbest=2, maximum_length=6)
    found = beam(Table(random_table(6, 2)), None, search, sentences=3)
    assert len(found) == 3
    assert found[0] == found[1] == found[2]
    assert beam(Table(random_table(6, 2)), None, search, sentences=0) == []


def test_what_a_model_builds_on_the_way_stays_usable_in_training() -> None:
    class Lazy(Table):
        def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
            self.scale = torch.ones(len(self.logits))
            return Step(self.logits[tokens] * self.scale, None)

    model = Lazy(random_table(6, 2))
    beam(model, None, Search(beam=2, maximum_length=3))
    weights = torch.ones(6, requires_grad=True)
    torch.autograd.backward((weights * model.scale).sum())
    assert weights.grad is not None


def test_bfloat16_logits_are_added_up_in_float32() -> None:
    rounded = Table(random_table(8, 1))
    rounded.logits = rounded.logits.bfloat16()
    exact = Table(random_table(8, 1))
    exact.logits = rounded.logits.float()
    search = Search(beam=3, nbest=3, minimum_length=20)
    assert_same(beam(rounded, None, search), beam(exact, None, search))
    forced = forced_scores(rounded, None, [[3] * 20])
    assert forced[0].log_prob == pytest.approx(forced_scores(exact, None, [[3] * 20])[0].log_prob, abs=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_numbers_are_an_error(value: float) -> None:
    table = Table(random_table(5, 0))
    table.logits[BOS, A] = value
    with pytest.raises(ModelError, match="not numbers"):
        beam(table, None, Search(beam=2))


@pytest.mark.parametrize("search", [Search(beam=2, nbest=3), Search(minimum_length=5, maximum_length=5)])
def test_settings_that_cannot_be_met_are_refused(search: Search) -> None:
    with pytest.raises(ConfigError, match="but search") as caught:
        beam(Table(random_table(5, 0)), None, search)
    assert caught.value.hint is not None
