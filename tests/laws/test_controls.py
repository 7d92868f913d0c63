"""Every control of the search against all sequences there are, on a recurrent model and on a Transformer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache

import msgspec
import pytest
import torch

from seqkit.batch import Padded
from seqkit.models.ensemble import Ensemble
from seqkit.search.beam import beam
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import BOS, EOS, Hypothesis
from seqkit.search.rules import BanPhrases, Fusion, Prefix, Rule
from seqkit.search.terms import Terms
from seqkit.settings import Model, Search
from tests.support.models import MODELS, TARGET, AnyModel, close, every_model, logits, make, sources, tokens

SMALL, LONGEST = 6, 5  # three real tokens, at most four of them and an end
REAL = tuple(range(EOS + 1, SMALL))
KINDS = ("transformer-pre", "gru-additive-feeding")
WIDE = Search(beam=400, nbest=20, maximum_length=LONGEST, maximum_ratio=9.0, length_reward=0.7)
Ids = tuple[int, ...]

both_kinds = pytest.mark.parametrize("kind", KINDS)


@cache
def model_of(kind: str, seed: int = 0) -> AnyModel:
    return make(MODELS[kind], target=SMALL, noise=0.5, seed=seed)


SOURCE = sources(4, size=SMALL)


@cache
def every_sequence(kind: str, seed: int = 0) -> dict[Ids, tuple[float, ...]]:
    """All finished sequences with the log-probabilities of their tokens, the end's included."""
    found = [ids for length in range(LONGEST) for ids in itertools.product(REAL, repeat=length)]
    source = Padded(SOURCE.ids.expand(len(found), -1), SOURCE.mask.expand(len(found), -1))
    scored = forced_scores(model_of(kind, seed), source, found)
    return {ids: each.log_probs for ids, each in zip(found, scored, strict=True)}


def optimum(
    kind: str,
    settings: Search,
    *,
    allowed: Callable[[Ids], bool] = lambda _: True,
    total: Callable[[Ids, Sequence[float]], float] = lambda _, values: sum(values),
) -> list[tuple[Ids, float]]:
    """The best sequences that are allowed, with their scores."""

    def reward(length: int) -> float:
        size = length if settings.length_normalisation == "power" else (5 + length) / 6
        return float(size**settings.length_reward)

    found = [
        (ids, total(ids, values) / reward(len(ids) + 1))
        for ids, values in every_sequence(kind).items()
        if allowed(ids) and len(ids) >= settings.minimum_length
    ]
    return sorted(found, key=lambda each: -each[1])[: settings.nbest]


def check(
    kind: str,
    settings: Search,
    expected: list[tuple[Ids, float]],
    *,
    rules: Sequence[Rule] = (),
    terms: Terms | None = None,
) -> list[Hypothesis]:
    """Search finds these, in this order, and their log-probabilities are the model's own."""
    [found] = beam(model_of(kind), SOURCE, settings, rules=rules, terms=terms)
    found = [each for each in found if each.finished]
    assert [each.ids for each in found] == [ids for ids, _ in expected][: len(found)]
    assert len(found) == len(expected)
    for each, (ids, value) in zip(found, expected, strict=True):
        assert each.score == pytest.approx(value, abs=1e-4)
        assert each.log_prob == pytest.approx(sum(every_sequence(kind)[ids]), abs=1e-4)
    return found


def grams(ids: Ids, size: int) -> list[Ids]:
    return [ids[i : i + size] for i in range(len(ids) - size + 1)]


@both_kinds
@pytest.mark.parametrize("normalisation", ["power", "gnmt"])
@pytest.mark.parametrize("reward", [0.0, 0.6, 1.3])
def test_length_reward(kind: str, normalisation: str, reward: float) -> None:
    settings = msgspec.structs.replace(WIDE, length_reward=reward, length_normalisation=normalisation)
    check(kind, settings, optimum(kind, settings))


@both_kinds
def test_minimum_length(kind: str) -> None:
    settings = msgspec.structs.replace(WIDE, minimum_length=3)
    check(kind, settings, optimum(kind, settings))


@both_kinds
@pytest.mark.parametrize("size", [1, 2])
def test_no_gram_twice(kind: str, size: int) -> None:
    settings = msgspec.structs.replace(WIDE, no_repeat=size)
    unique = optimum(kind, settings, allowed=lambda ids: len(set(grams(ids, size))) == len(grams(ids, size)))
    assert unique != optimum(kind, WIDE)
    check(kind, settings, unique)


@both_kinds
def test_repetition_costs(kind: str) -> None:
    def total(ids: Ids, values: Sequence[float]) -> float:
        again = [token in ids[:place] for place, token in enumerate(ids)]
        return sum(value * (1.7 if twice else 1.0) for value, twice in zip(values, [*again, False], strict=True))

    settings = msgspec.structs.replace(WIDE, repetition_penalty=1.7)
    check(kind, settings, optimum(kind, settings, total=total))


@both_kinds
@pytest.mark.parametrize("phrases", [((3,),), ((4, 3), (5,)), ((3, 4, 5),)], ids=str)
def test_banned_phrases(kind: str, phrases: tuple[Ids, ...]) -> None:
    def clean(ids: Ids) -> bool:
        return not any(phrase in grams(ids, len(phrase)) for phrase in phrases)

    check(kind, WIDE, optimum(kind, WIDE, allowed=clean), rules=[BanPhrases(phrases)])


@both_kinds
@pytest.mark.parametrize("prefix", [(4,), (5, 5, 3)], ids=str)
def test_forced_prefix(kind: str, prefix: Ids) -> None:
    rule = Prefix(torch.tensor([prefix]))
    check(kind, WIDE, optimum(kind, WIDE, allowed=lambda ids: ids[: len(prefix)] == prefix), rules=[rule])


@both_kinds
def test_another_model_has_a_say(kind: str) -> None:
    speaker = make(MODELS["language-gru"], target=SMALL, noise=0.8, seed=5)
    spoken = {ids: forced_scores(speaker, None, [ids])[0].log_probs for ids in every_sequence(kind)}

    def total(ids: Ids, values: Sequence[float]) -> float:
        return sum(own + 0.6 * other for own, other in zip(values, spoken[ids], strict=True))

    expected = optimum(kind, WIDE, total=total)
    assert [ids for ids, _ in expected] != [ids for ids, _ in optimum(kind, WIDE)]
    check(kind, WIDE, expected, rules=[Fusion(speaker, 0.6, (BOS,))])


@both_kinds
@pytest.mark.parametrize(
    "forms",
    [
        [[[3, 5], [5, 5]]],
        [[[4]], [[5, 3]]],
        [[[3, 3], [3, 3, 4]], [[5]]],
        *(pytest.param(few, marks=pytest.mark.slow) for few in ([[[4]]], [[[3]], [[4]], [[5]]], [[[3, 4, 3, 4]]])),
    ],
    ids=str,
)
@pytest.mark.parametrize("joining", [(), (3,)], ids=str)
def test_terms_are_in_the_best_that_has_them(kind: str, forms: list[list[list[int]]], joining: Ids) -> None:
    """Tokens of `joining` go on with the word before them: a form that one of them follows is another word."""
    bounds = torch.tensor([id not in joining for id in range(SMALL)])

    def there(ids: Ids, form: Sequence[int]) -> bool:
        places = [i for i, gram in enumerate(grams(ids, len(form))) if gram == tuple(form)]
        return any(i + len(form) == len(ids) or ids[i + len(form)] not in joining for i in places)

    def has_all(ids: Ids) -> bool:
        return all(any(there(ids, form) for form in term) for term in forms)

    expected = optimum(kind, WIDE, allowed=has_all)
    assert expected
    check(kind, WIDE, expected, terms=Terms([forms], bounds))
    for width in (2, 3, 5):  # a narrow beam may miss the best, but never a term
        narrow = msgspec.structs.replace(WIDE, beam=width, nbest=1)
        [[found]] = beam(model_of(kind), SOURCE, narrow, terms=Terms([forms], bounds))
        assert found.finished
        assert has_all(found.ids)


@both_kinds
def test_terms_of_neighbours_change_nothing(kind: str) -> None:
    model, source = make(MODELS[kind], noise=0.5), sources(4, 2, 6)
    bounds = torch.ones(TARGET, dtype=torch.bool)
    terms = [[[[5, 3]], [[4]]], [[[7], [8, 8]]], [[[3, 3, 3]], [[6]], [[4, 5]]]]
    settings = Search(beam=6, maximum_length=12)
    together = beam(model, source, settings, terms=Terms(terms, bounds))
    for row in range(3):
        length = int(source.mask[row].sum())
        alone = Padded(source.ids[row : row + 1, :length], source.mask[row : row + 1, :length])
        [[found]] = beam(model, alone, settings, terms=Terms([terms[row]], bounds))
        assert found.ids == together[row][0].ids
        assert found.log_prob == pytest.approx(together[row][0].log_prob, abs=1e-4)


@both_kinds
def test_groups_that_are_wide_enough_find_the_best_and_narrow_ones_differ(kind: str) -> None:
    wide = msgspec.structs.replace(WIDE, groups=2, beam=800)
    check(kind, wide, optimum(kind, WIDE))
    settings = Search(beam=3, groups=3, nbest=3, diversity=1e3, maximum_length=LONGEST)
    [found] = beam(model_of(kind), SOURCE, settings)
    assert len({each.ids[:1] for each in found}) == 3
    for each in found:
        if each.finished:
            assert each.log_prob == pytest.approx(sum(every_sequence(kind)[each.ids]), abs=1e-4)
    same = msgspec.structs.replace(settings, diversity=0.0)
    [alike] = beam(model_of(kind), SOURCE, same)
    assert len(alike) == 1  # without a penalty all groups find the same


@both_kinds
def test_groups_of_neighbours_change_nothing(kind: str) -> None:
    model, source = make(MODELS[kind], noise=0.5), sources(4, 2, 6)
    settings = Search(beam=6, groups=3, nbest=4, maximum_length=9, no_repeat=2)
    together = beam(model, source, settings)
    for row in range(3):
        length = int(source.mask[row].sum())
        alone = Padded(source.ids[row : row + 1, :length], source.mask[row : row + 1, :length])
        [found] = beam(model, alone, settings)
        assert [each.ids for each in found] == [each.ids for each in together[row]]


@both_kinds
@pytest.mark.parametrize("patience", [0.0, 1.0, 3.0])
def test_patience_ends_a_search_sooner_and_a_wide_one_not(kind: str, patience: float) -> None:
    settings = msgspec.structs.replace(WIDE, patience=patience)
    check(kind, settings, optimum(kind, settings))
    narrow = msgspec.structs.replace(WIDE, beam=2, nbest=1, patience=patience)
    [[found]] = beam(model_of(kind), SOURCE, narrow)
    [[best]] = beam(model_of(kind), SOURCE, msgspec.structs.replace(narrow, patience=0.0))
    assert found.score <= best.score + 1e-6


@every_model
def test_two_copies_of_a_model_are_the_model(settings: Model) -> None:
    """Law 7."""
    model, ids = make(settings), tokens(2, 5)
    twice = Ensemble([model, model], weights=[0.3, 0.7])
    with torch.no_grad():
        close(logits(twice, sources(5, 2), ids, 2), logits(model, sources(5, 2), ids).log_softmax(-1))
