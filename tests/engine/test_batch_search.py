"""Search over many sources: results in their order, each as if its source were alone, however batches are made."""

from __future__ import annotations

import msgspec
import pytest
import torch

from seqkit.batch import pad
from seqkit.engine.batch_search import BatchSearch, search_batches
from seqkit.engine.search_engine import Constraints, SearchEngine
from seqkit.search.beam import beam
from seqkit.search.hypothesis import EOS, Hypothesis
from seqkit.search.rules import Ban
from seqkit.settings import Search
from seqkit.system.device import CPU
from tests.support.search import Recurrent, Table, random_table

SIZE = 12
SOURCES: list[list[int]] = [[3, 4, 5, 6, 7, 8], [], [9], [5, 5, 4], [10, 3], [9], [4] * 9, [11, 8, 7]]
SETTINGS = [
    Search(beam=3, nbest=2, maximum_length=6),
    Search(beam=4, groups=2, maximum_length=5, no_repeat=2),
    Search(method="sample", nbest=2, nucleus=0.9, maximum_length=6, seed=3),
]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=["beam", "groups", "sample"])


def model() -> Recurrent:
    return Recurrent(size=SIZE, seed=0)


def ids_of(lists: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[hypothesis.ids for hypothesis in hypotheses] for hypotheses in lists]


@every_setting
@pytest.mark.parametrize("budget", [1, 30, 8192])
def test_neither_neighbours_nor_batches_change_a_result(settings: Search, budget: int) -> None:
    alone = [search_batches(model(), [source], settings, device=CPU)[0] for source in SOURCES]
    assert len({hypotheses[0].ids for hypotheses in alone if hypotheses}) > 3  # else the order could not be told
    small = msgspec.structs.replace(settings, batch_tokens=budget)
    together = search_batches(model(), SOURCES, small, device=CPU)
    assert ids_of(together) == ids_of(alone)
    assert together[1] == []  # an empty source has no hypotheses
    assert ids_of([together[2]]) == ids_of([together[5]])  # equal sources have equal results, samples too


def test_one_batch_is_a_beam_search() -> None:
    search = SETTINGS[0]
    [expected] = beam(model(), pad([[*SOURCES[0], EOS]]), search)
    assert search_batches(model(), [SOURCES[0]], search, device=CPU) == [expected]


@every_setting
def test_prefixes_begin_and_rules_bind(settings: Search) -> None:
    prefixes = [[5, 6] if index % 2 else [] for index in range(len(SOURCES))]
    constraints = Constraints(prefixes=prefixes, rules=[Ban((7,))])
    found = search_batches(model(), SOURCES, settings, device=CPU, constraints=constraints)
    for prefix, hypotheses in zip(prefixes, ids_of(found), strict=True):
        assert all(list(ids[: len(prefix)]) == prefix for ids in hypotheses)
        assert all(7 not in ids for ids in hypotheses)


def test_terms_are_in_the_sources_that_have_them_and_widen_no_other_beam() -> None:
    terms = [[[[7, 8]]] if index == 3 else [] for index in range(len(SOURCES))]
    constraints = Constraints(terms=terms, word_boundaries=torch.ones(SIZE, dtype=torch.bool))
    search = Search(beam=1, maximum_length=6)
    found, free = (search_batches(model(), SOURCES, search, device=CPU, constraints=c) for c in (constraints, None))
    assert (7, 8) in zip(found[3][0].ids, found[3][0].ids[1:], strict=False)
    assert ids_of(found[:3] + found[4:]) == ids_of(free[:3] + free[4:])


def test_the_caller_hears_of_every_batch_and_may_leave() -> None:
    done: list[int] = []

    def leave() -> None:
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    search = Search(beam=1, maximum_length=3, batch_tokens=1)
    search_batches(model(), SOURCES, search, device=CPU, batch_done=lambda: done.append(0))
    assert len(done) > 2
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        search_batches(model(), SOURCES, search, device=CPU, batch_done=leave)
    assert len(done) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_that_run_side_by_side_find_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    search = Search(beam=3, maximum_length=6, batch_tokens=1)
    expected = search_batches(model(), SOURCES, search, device=CPU)
    torch.set_num_threads(threads)
    try:
        assert ids_of(search_batches(model(), SOURCES, search, device=CPU)) == ids_of(expected)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_package_s_own_engine_is_this_search() -> None:
    engine: SearchEngine = BatchSearch(model(), device=CPU)
    assert ids_of(engine.search(SOURCES, SETTINGS[0])) == ids_of(
        search_batches(model(), SOURCES, SETTINGS[0], device=CPU)
    )


def test_each_source_has_random_numbers_of_its_own() -> None:
    """A model that does not look at its source says something else for each all the same."""
    search = Search(method="sample", nbest=1, maximum_length=20)
    endless = random_table(SIZE, 0)
    endless[:, EOS] = 0
    samples = search_batches(Table(endless), [[3], [4], [5]], search, device=CPU)
    assert len({hypotheses[0].ids for hypotheses in samples}) == 3
