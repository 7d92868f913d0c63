"""Samples: true to the model, independent of their neighbours, and obedient to every setting."""

from __future__ import annotations

import math
import sys
from typing import TypedDict

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.search import Hypothesis, beam, sample, stream
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import BOS, EOS
from seqkit.search.rules import Ban
from seqkit.settings import Search
from seqkit.state import Memory, State, Step
from tests.support.search import Past, Recurrent, Table, probabilities, random_table, sources

MODULE = sys.modules["seqkit.search.sample"]  # the package gives its function this name
A, B, C = 3, 4, 5
quick = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10_000)
# Prompts of a vocabulary of 9, `<s>` included.
many_prompts = st.lists(st.lists(st.integers(EOS, 8), max_size=7).map(lambda ids: [BOS, *ids]), min_size=1, max_size=6)
searches = st.builds(
    Search,
    temperature=st.sampled_from([0.7, 1.0, 1.6]),
    top_k=st.sampled_from([0, 1, 2, 5]),
    nucleus=st.sampled_from([0.5, 0.9, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    no_repeat=st.integers(0, 3),
    minimum_length=st.integers(0, 3),
    maximum_length=st.integers(4, 12),
    seed=st.integers(0, 1000),
)
endings = st.fixed_dictionaries({"endless": st.booleans(), "context": st.sampled_from([None, 1, 2, 5])})


class Ending(TypedDict):
    """What a model makes of `</s>` and of its past."""

    endless: bool
    context: int | None


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [(h.ids, h.finished) for h in found] == [(h.ids, h.finished) for h in expected]
    assert [h.log_prob for h in found] == pytest.approx([h.log_prob for h in expected], abs=1e-4)


def chi_square(counts: Tensor, expected: Tensor) -> float:
    return float(((counts - expected).square() / expected)[expected > 0].sum())


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_are_as_frequent_as_they_are_probable(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "ROWS", 2500)
    size, count = 7, 5000
    table = random_table(size, 5).pow(0.4)
    table[:, A] = 0  # never drawn, though it stands in the middle
    found = sample(Table(table), [[BOS]] * count, search=Search(temperature=temperature, maximum_length=3, seed=1))
    wanted = table.double().pow(1 / temperature)
    wanted[:, :EOS] = 0
    wanted /= wanted.sum(1, keepdim=True)
    seen = [(*h.ids, *[EOS] * h.finished) for h in found]
    for last in (BOS, B, C):  # the first token, and the second after each likely first
        nexts = [ids[0] for ids in seen] if last == BOS else [ids[1] for ids in seen if ids[0] == last]
        counts = torch.bincount(torch.tensor(nexts), minlength=size).double()
        expected = wanted[last] * len(nexts)
        assert len(nexts) > 200
        assert not counts[expected == 0].any()
        assert chi_square(counts, expected) < 20  # 3 degrees of freedom: exceeded once in 6000


@quick
@given(seed=seeds, width=st.integers(4, 30), prompt=st.lists(st.integers(EOS, 3), max_size=5))
def test_the_likeliest_token_of_each_step_is_a_beam_of_one(seed: int, width: int, prompt: list[int]) -> None:
    model = Recurrent(size=width, seed=seed, end_bias=1.0)
    [found] = sample(model, [[BOS, *prompt]], search=Search(top_k=1, maximum_length=12, seed=seed))
    [[expected]] = beam(model, None, Search(beam=1, length_reward=0, maximum_length=12), prompt=[BOS, *prompt])
    assert_same([found], [expected])
    assert found.score == pytest.approx(expected.score, abs=1e-4)


@quick
@given(seed=seeds, prompt=st.lists(st.integers(EOS, 8), max_size=4), width=st.integers(1, 4))
def test_a_beam_goes_on_from_a_prompt(seed: int, prompt: list[int], width: int) -> None:
    model = Recurrent(size=9, seed=seed, end_bias=0.5)
    source = sources([3, 5], size=9, seed=seed)
    search = Search(beam=width, nbest=width, length_reward=0.6, minimum_length=2, maximum_length=6)
    found = beam(model, source, search, prompt=[BOS, *prompt])
    flat = [hypothesis for hypotheses in found for hypothesis in hypotheses]
    forced = forced_scores(model, source, [[*prompt, *hypothesis.ids] for hypothesis in flat])
    for hypothesis, scored in zip(flat, forced, strict=True):
        log_probs = scored.log_probs[len(prompt) : None if hypothesis.finished else -1]
        assert 2 <= len(log_probs) <= 6
        assert hypothesis.log_prob == pytest.approx(sum(log_probs), abs=1e-4)
        assert hypothesis.score == pytest.approx(sum(log_probs) / len(log_probs) ** 0.6, abs=1e-4)


@quick
@given(seed=seeds, prompts=many_prompts, search=searches, ending=endings, rows=st.integers(1, 6), data=st.data())
def test_neighbours_and_batches_change_nothing(
    seed: int, prompts: list[list[int]], search: Search, ending: Ending, rows: int, data: st.DataObject
) -> None:
    model = Recurrent(size=9, seed=seed, end_bias=0.5)
    whole = sample(model, prompts, search=search, **ending)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "ROWS", rows)
        patch.setattr(MODULE, "PROMPT_TOKENS", rows)
        assert_same(sample(model, prompts, search=search, **ending), whole)
    count = data.draw(st.integers(1, len(prompts)))
    assert_same(sample(model, prompts[:count], search=search, **ending), whole[:count])
    for number, (prompt, expected) in enumerate(zip(prompts, whole, strict=True)):
        alone = list(stream(model, prompt, search=search, number=number, **ending))
        assert alone == list(expected.ids)


@quick
@given(seed=seeds, prompts=many_prompts, search=searches, ending=endings)
def test_samples_obey_their_settings(seed: int, prompts: list[list[int]], search: Search, ending: Ending) -> None:
    model = Recurrent(size=9, seed=seed, end_bias=0.5)
    banned = 4
    n = search.no_repeat
    for prompt, found in zip(
        prompts, sample(model, prompts, search=search, **ending, rules=[Ban((banned,))]), strict=True
    ):
        drawn = [*found.ids, *[EOS] * found.finished]
        assert not {0, BOS, banned} & set(drawn)
        assert len(drawn) <= search.maximum_length
        assert found.finished or len(drawn) == search.maximum_length or search.minimum_length
        assert EOS not in drawn[: search.minimum_length]
        assert ending["endless"] or EOS not in found.ids
        whole = [*prompt, *drawn]
        for end in range(len(prompt) + 1, len(whole) + 1):
            if n and end >= n and whole[end - 1] != EOS:
                grams = [whole[at : at + n] for at in range(end - n)]
                assert whole[end - n : end] not in grams


@quick
@given(seed=seeds, prompts=many_prompts, search=searches, ending=endings)
def test_probabilities_are_the_models_own_and_those_of_what_was_drawn(
    seed: int, prompts: list[list[int]], search: Search, ending: Ending
) -> None:
    ending["context"] = None
    model = Recurrent(size=9, seed=seed, end_bias=0.5)
    found = sample(model, prompts, search=search, **ending)
    forced = forced_scores(model, None, [[*prompt[1:], *h.ids] for prompt, h in zip(prompts, found, strict=True)])
    for prompt, hypothesis, scored in zip(prompts, found, forced, strict=True):
        end = len(scored.log_probs) - (not hypothesis.finished)
        assert hypothesis.log_prob == pytest.approx(sum(scored.log_probs[len(prompt) - 1 : end]), abs=1e-4)
        assert hypothesis.score == hypothesis.log_prob


@quick
@given(seed=seeds, lengths=st.lists(st.integers(1, 6), min_size=2, max_size=5), search=searches)
def test_each_row_has_its_own_source(seed: int, lengths: list[int], search: Search) -> None:
    search = msgspec.structs.replace(search, top_k=1)
    model = Recurrent(size=9, seed=seed, end_bias=1.0)
    source = sources(lengths, size=9, seed=seed)
    prompts = [[BOS, *[3 + number % 3] * (number % 3)] for number in range(len(lengths))]
    found = sample(model, prompts, search=search, source=source)
    for number, length in enumerate(lengths):
        alone = Padded(source.ids[number : number + 1, :length], source.mask[number : number + 1, :length])
        assert_same(found[number : number + 1], sample(model, [prompts[number]], search=search, source=alone))


def test_a_seed_fixes_the_text_and_numbers_and_seeds_change_it() -> None:
    model = Recurrent(size=30, seed=0, end_bias=-50.0)
    texts: dict[tuple[int, int], tuple[int, ...]] = {}
    for seed in (0, 1, 2**40):
        search = Search(maximum_length=20, seed=seed)
        found = sample(model, [[BOS]] * 3, search=search)
        assert found == sample(model, [[BOS]] * 3, search=search)
        texts |= {(seed, number): h.ids for number, h in enumerate(found)}
    assert len(set(texts.values())) == len(texts)


@pytest.mark.parametrize("block", [1, 3, 256])
def test_texts_differ_beyond_a_block_and_are_only_cut_by_the_maximum(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "RANDOM_BLOCK", block)
    table = probabilities({token: {A: 0.5, B: 0.5} for token in (BOS, A, B)}, size=5)
    [short] = sample(Table(table), [[BOS]], search=Search(maximum_length=10))
    [long] = sample(Table(table), [[BOS]], search=Search(maximum_length=60))
    assert long.ids[:10] == short.ids
    assert len({long.ids[at : at + 12] for at in range(0, 60, 12)}) == 5  # random numbers are not used twice
    assert not short.finished


def test_finished_rows_leave_the_batch_and_equal_prompts_are_read_once() -> None:
    model = Recurrent(size=9, seed=0, end_bias=-50.0)
    sample(model, [[BOS, A, B]] * 5 + [[BOS, A, B, C, C]] * 2, search=Search(maximum_length=2))
    assert model.rows_advanced == 1 + 7 + 2 + 2  # the last token drawn is not read


def test_a_long_prompt_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recurrent(size=9, seed=0)
    monkeypatch.setattr(MODULE, "PROMPT_TOKENS", 20)
    sample(model, [[BOS] + [A] * 30, [BOS] + [B] * 31], search=Search(maximum_length=1))
    assert model.calls == [20, 20, 20, 2, 1]  # the shorter one is over before the last


class Looking(Recurrent):
    """Refuses to look back on more than `context` tokens."""

    def __init__(self, context: int) -> None:
        super().__init__(size=9, seed=1, end_bias=-50.0)
        self.context = context
        self.tokens_read = 0

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        step = super().advance(tokens, memory, state)
        past: Past = step.state
        assert past.steps <= self.context
        self.tokens_read += tokens.numel()
        return step


@pytest.mark.parametrize("context", [1, 2, 3, 8])
def test_a_model_never_looks_back_further_than_its_context(context: int) -> None:
    model = Looking(context)
    prompts = [[BOS], [BOS] + [A] * 8, [BOS] + [B] * 20]
    found = sample(model, prompts, search=Search(maximum_length=30), context=context)
    assert [len(h.ids) for h in found] == [30] * 3
    steps = sum(len(prompt) + 30 for prompt in prompts)
    assert model.tokens_read <= 4 * steps  # half of the context is read again whenever it is full
    unbounded = sample(Looking(100), prompts, search=Search(maximum_length=30))
    assert found[0].ids[: context - 1] == unbounded[0].ids[: context - 1]
    assert found[0].ids != unbounded[0].ids


@pytest.mark.parametrize("size", [3, 4])
def test_tiny_vocabularies(size: int) -> None:
    table = random_table(size, 0)
    search = Search(temperature=0.5, top_k=10, nucleus=0.9, repetition_penalty=2.0, no_repeat=1, maximum_length=9)
    for found in sample(Table(table), [[BOS]] * 20, search=search):
        assert found.finished
        assert found.ids in [(), (A,)][: size - 2]
    [end, *_] = sample(Table(table), [[BOS]], search=search, endless=True)
    assert set(end.ids) <= {EOS, A}


@pytest.mark.parametrize(("number", "token"), [(0.0, A), (0.25, C), (1 - 2**-53, C)])
def test_no_random_number_draws_the_impossible(number: float, token: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        MODULE, "_uniform_numbers", lambda _, rows, __: torch.full((len(rows), 256), number, dtype=torch.float64)
    )
    table = probabilities({BOS: {A: 0.25, C: 0.75}}, size=8)
    [found] = sample(Table(table), [[BOS]], search=Search(maximum_length=1))
    assert found.ids == (token,)


@pytest.mark.parametrize("top_k", [1, 0])
def test_a_text_is_cut_where_nothing_may_follow(top_k: int) -> None:
    table = probabilities({BOS: {A: 0.5, B: 0.5}, A: {C: 1.0}, B: {EOS: 1.0}}, size=6)
    found = sample(Table(table), [[BOS, A], [BOS, B], [BOS, C]], search=Search(top_k=top_k))
    assert [(h.ids, h.finished) for h in found] == [((C,), False), ((), True), ((), False)]
    assert [h.log_prob for h in found] == pytest.approx([0, 0, 0])
    assert list(stream(Table(table), [BOS, A], search=Search(top_k=top_k))) == [C]


def test_prompts_may_hold_what_is_never_drawn() -> None:
    model = Recurrent(size=9, seed=2)
    prompt = [EOS, 0, BOS, A, A, A, EOS]
    search = Search(no_repeat=1, maximum_length=5, minimum_length=4)
    [found, _] = sample(model, [prompt, [BOS]], search=search)
    assert len(found.ids) >= 4
    assert A not in found.ids


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_numbers_are_an_error(value: float) -> None:
    table = Table(random_table(5, 0))
    table.logits[BOS, A] = value
    for top_k in (1, 2):
        with pytest.raises(ModelError, match="not numbers"):
            sample(table, [[BOS]], search=Search(top_k=top_k))


def test_nothing_to_go_on_from() -> None:
    assert sample(Table(random_table(5, 0)), [], search=Search()) == []
    with pytest.raises(DataError, match="empty"):
        sample(Table(random_table(5, 0)), [[BOS], []], search=Search())
    with pytest.raises(DataError, match="empty"):
        next(stream(Table(random_table(5, 0)), [], search=Search()))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", [-1.0, 1e-9, math.nan, math.inf]),
        ("top_k", [-1]),
        ("nucleus", [0.0, 1.1, math.nan]),
        ("repetition_penalty", [0.9, math.nan, math.inf]),
        ("no_repeat", [-1]),
        ("minimum_length", [-1, 512]),
        ("maximum_length", [0]),
        ("seed", [-1]),
    ],
)
def test_settings_out_of_range_are_named(name: str, values: list[float]) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            sample(Table(random_table(5, 0)), [[BOS]], search=msgspec.structs.replace(Search(), **{name: value}))
        assert caught.value.hint is not None
        assert name in str(caught.value)


def test_a_context_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="context"):
        sample(Table(random_table(5, 0)), [[BOS]], search=Search(), context=0)


def test_what_a_model_builds_on_the_way_stays_usable_in_training() -> None:
    class Lazy(Table):
        def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
            assert not torch.is_grad_enabled()
            self.scale = torch.ones(len(self.logits))
            return Step(self.logits[tokens] * self.scale, None)

    model = Lazy(random_table(6, 2))
    going = stream(model, [BOS], search=Search(maximum_length=3))
    next(going)
    assert torch.is_grad_enabled()
    weights = torch.ones(6, requires_grad=True)
    torch.autograd.backward((weights * model.scale).sum())
    assert weights.grad is not None
