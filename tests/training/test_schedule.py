"""Schedules are functions of the step and the horizon: each is compared with its formula, written out here."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.settings import Constant, CosineDecay, InverseSquareRoot, LinearDecay, Schedule
from seqkit.training.schedule import factor, needs_horizon

WARMUP, END = 20, 100
STEPS = [0, 1, WARMUP - 1, WARMUP, WARMUP + 1, 60, END - 1, END, END + 1]


def rise(step: int) -> float:
    return min(1.0, (step + 1) / WARMUP)


FORMULAS: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "constant": (Constant(warmup=WARMUP), rise),
    "inverse": (InverseSquareRoot(warmup=WARMUP), lambda s: min((s + 1) / WARMUP, math.sqrt(WARMUP / (s + 1)))),
    "linear": (LinearDecay(warmup=WARMUP), lambda s: rise(s) * max(0.0, 1 - s / END)),
    "cosine": (CosineDecay(warmup=WARMUP), lambda s: rise(s) * (1 + math.cos(math.pi * min(1.0, s / END))) / 2),
}
every_schedule = pytest.mark.parametrize(("schedule", "formula"), FORMULAS.values(), ids=FORMULAS)
schedules = st.builds(
    lambda kind, warmup: kind(warmup=warmup),
    st.sampled_from([Constant, InverseSquareRoot, LinearDecay, CosineDecay]),
    st.integers(0, 50),
)


@every_schedule
@pytest.mark.parametrize("step", STEPS)
def test_the_rate_is_the_formula_s(schedule: Schedule, formula: Callable[[int], float], step: int) -> None:
    assert factor(schedule, step, horizon=END) == pytest.approx(formula(step))


@pytest.mark.parametrize(
    "schedule", [LinearDecay(), CosineDecay(), LinearDecay(hold=0.5)], ids=["linear", "cosine", "held"]
)
def test_the_rate_is_zero_at_the_horizon_and_behind_it(schedule: Schedule) -> None:
    assert factor(schedule, END, horizon=END) == pytest.approx(0.0, abs=1e-12)
    assert factor(schedule, END + 50, horizon=END) == pytest.approx(0.0, abs=1e-12)
    assert factor(schedule, END - 1, horizon=END) > 0


def test_a_held_rate_stays_up_and_then_falls_to_zero() -> None:
    schedule = LinearDecay(warmup=0, hold=0.6)
    assert [factor(schedule, step, horizon=10) for step in range(11)] == pytest.approx(
        [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    )


@given(schedules, st.integers(0, 10**6), st.one_of(st.none(), st.integers(0, 10**6)))
def test_a_factor_lies_between_nothing_and_the_base_rate(schedule: Schedule, step: int, horizon: int | None) -> None:
    assert 0.0 <= factor(schedule, step, horizon=horizon) <= 1.0


@given(schedules, st.integers(1, 1000))
def test_the_first_step_moves(schedule: Schedule, horizon: int) -> None:
    """A first rate of zero would waste it."""
    assert factor(schedule, 0, horizon=horizon) > 0


@given(schedules, st.integers(1, 200))
def test_after_warm_up_the_rate_never_rises(schedule: Schedule, horizon: int) -> None:
    course = [factor(schedule, step, horizon=horizon) for step in range(schedule.warmup, 220)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(course))


def test_without_a_horizon_the_rate_stays_up() -> None:
    assert factor(LinearDecay(warmup=0), 10**6, horizon=None) == 1.0
    assert factor(CosineDecay(warmup=0), 10**6, horizon=None) == 1.0


def test_only_what_falls_to_an_end_needs_one() -> None:
    kinds = {name: needs_horizon(schedule) for name, (schedule, _) in FORMULAS.items()}
    assert kinds == {"constant": False, "inverse": False, "linear": True, "cosine": True}
