"""Seeds of several numbers: neighbours are kept apart, and the order counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seqkit.training.seeds import seed_of


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 3)), min_size=2, unique=True))
def test_places_have_seeds_of_their_own(places: list[tuple[int, int, int]]) -> None:
    seeds = [seed_of(1, *place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_a_function_of_its_numbers_and_their_order() -> None:
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)
    assert seed_of(1, 2, 3) != seed_of(1, 3, 2)
    assert seed_of(1) != seed_of(1, 0)


def test_a_run_begun_earlier_draws_the_same_numbers() -> None:
    assert seed_of(0) == 8147104208329303767
    assert seed_of(1, 2, 3) == 3851293329796251419
