"""Law 6 on real models: a wide beam finds the best there is, company changes nothing, and scores are true."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.engine.batch_search import search_batches
from seqkit.search.beam import beam
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import EOS, Hypothesis
from seqkit.settings import Model, Search
from seqkit.state import Decodable, Memory, State, Step, rows_of, select
from tests.support.models import MODELS, TARGET, AnyModel, every_decodable, make, sources, tokens

SMALL, LONGEST = 6, 4  # a target vocabulary with three real tokens, and at most three of them and an end
LONG = Search(beam=4, nbest=4, maximum_length=9)
near = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


def every_sequence(model: AnyModel, source: Padded, reward: float, minimum: int) -> list[tuple[float, ...]]:
    """All finished sequences by falling score, each as its score and its ids."""
    real = range(EOS + 1, SMALL)
    found = [ids for length in range(minimum, LONGEST) for ids in itertools.product(real, repeat=length)]
    scored = forced_scores(
        model,
        Padded(source.ids.expand(len(found), -1), source.mask.expand(len(found), -1)),
        found,
        length_reward=reward,
    )
    return sorted(((each.score, *ids) for each, ids in zip(scored, found, strict=True)), reverse=True)


@every_decodable
def test_a_beam_wider_than_the_search_space_finds_the_optimum(settings: Model) -> None:
    model, source = make(settings, target=SMALL, noise=0.5), sources(4, size=SMALL)
    for reward, minimum in ((0.0, 0), (0.6, 2), (1.0, 0), (2.0, 2)):
        search = Search(
            beam=(SMALL - EOS) ** LONGEST, nbest=5, maximum_length=LONGEST, length_reward=reward, minimum_length=minimum
        )
        best = every_sequence(model, source, reward, minimum)[:5]
        found = beam(model, source, search)[0]
        assert [hypothesis.ids for hypothesis in found] == [tuple(map(int, ids)) for _, *ids in best]
        near(torch.tensor([hypothesis.score for hypothesis in found]), torch.tensor([value for value, *_ in best]))


@every_decodable
def test_a_beam_of_one_is_the_likeliest_token_at_each_step(settings: Model) -> None:
    model, source = make(settings), sources(5)
    ids = tokens(1, 1)
    with torch.no_grad():
        memory, state = model.start(source)
        while ids[0, -1] != EOS and ids.shape[1] <= 9:
            out, state = model.advance(ids[:, -1:], memory, state)
            out[:, :, :EOS] = -torch.inf
            ids = torch.cat([ids, out.argmax(2)], dim=1)
    (hypothesis,) = beam(model, source, Search(beam=1, maximum_length=9))[0]
    assert [*hypothesis.ids, *[EOS] * hypothesis.finished] == ids[0, 1:].tolist()


@every_decodable
def test_a_batch_finds_what_each_sentence_finds_alone(settings: Model) -> None:
    model, source = make(settings), sources(1, 6, 3, 5)
    together = beam(model, source, LONG)
    for row, length in enumerate(source.mask.sum(1).tolist()):
        alone = beam(model, Padded(source.ids[row, None, :length], source.mask[row, None, :length]), LONG)[0]
        same(together[row], alone)


def same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [hypothesis.ids for hypothesis in found] == [hypothesis.ids for hypothesis in expected]
    near(torch.tensor([each.score for each in found]), torch.tensor([each.score for each in expected]))


@pytest.mark.parametrize("name", ["transformer-pre", "gru-additive-feeding", "plain-lstm", "mixed-lstm"])
def test_neither_budget_nor_order_changes_a_translation(name: str) -> None:
    """As many sentences as come in go out, in their order, whatever they were batched with."""
    model = make(MODELS[name])
    random = np.random.default_rng(0)
    wanted = [random.integers(EOS + 1, TARGET, size=length).tolist() for length in random.integers(0, 9, size=24)]
    search = partial(search_batches, model, device=torch.device("cpu"))
    one_by_one = search(wanted, Search(beam=3, maximum_length=9, batch_tokens=1))
    assert [bool(found) for found in one_by_one] == [bool(source) for source in wanted]
    for budget in (60, 10_000):
        in_batches = search(wanted, Search(beam=3, maximum_length=9, batch_tokens=budget))
        for found, expected in zip(in_batches, one_by_one, strict=True):
            same(found, expected)
    order = random.permutation(len(wanted)).tolist()
    shuffled = search([wanted[i] for i in order], Search(beam=3, maximum_length=9))
    for place, index in enumerate(order):
        same(shuffled[place], one_by_one[index])


class Undecided:
    """A model with flat predictions, so that the hypotheses of its beam differ and change places."""

    def __init__(self, model: AnyModel) -> None:
        self.model = model
        self.bonus = torch.arange(TARGET) == EOS  # for ending

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return self.model.start(source)

    def advance(self, ids: Tensor, memory: Memory, state: State) -> Step:
        out, state = self.model.advance(ids, memory, state)
        return Step(out / 4 + self.bonus, state)


def check_scores(model: Decodable, searched: Decodable) -> None:
    """Each log-probability that search reports is what teacher forcing finds."""
    source = sources(6, 3)
    for row, found in enumerate(beam(searched, source, Search(beam=8, nbest=8, minimum_length=3, maximum_length=12))):
        finished = [hypothesis for hypothesis in found if hypothesis.finished]
        rows = torch.full((len(finished),), row)
        scored = forced_scores(model, Padded(source.ids[rows], source.mask[rows]), [each.ids for each in finished])
        near(torch.tensor([each.log_prob for each in finished]), torch.tensor([each.log_prob for each in scored]))
        near(torch.tensor([each.score for each in finished]), torch.tensor([each.score for each in scored]))
        assert finished


@every_decodable
def test_a_log_probability_is_the_forced_score(settings: Model) -> None:
    model = Undecided(make(settings))
    check_scores(model, model)


class LeftBehind(Undecided):
    """Keeps its state to itself, where the beam cannot re-order it; it only grows with the beam."""

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        memory, self.state = super().start(source)
        return memory, None

    def advance(self, ids: Tensor, memory: Memory, state: State) -> Step:
        have = rows_of(self.state) or len(ids)
        own = select(self.state, torch.arange(len(ids)) * have // len(ids))
        out, self.state = super().advance(ids, memory, own)
        return Step(out, None)


@every_decodable
def test_the_law_notices_states_that_are_not_reordered(settings: Model) -> None:
    models = [make(settings, seed=seed) for seed in range(3)]  # one model's hypotheses may never change places
    with pytest.raises(AssertionError):
        check_all_scores(models)


def check_all_scores(models: list[AnyModel]) -> None:
    for model in models:
        check_scores(Undecided(model), LeftBehind(model))
