"""Learning-rate schedules as plain functions of the step and the horizon."""

from __future__ import annotations

import math
from typing import assert_never

from seqkit.settings import Constant, CosineDecay, InverseSquareRoot, LinearDecay, Schedule

__all__ = ["factor", "needs_horizon"]


def needs_horizon(schedule: Schedule) -> bool:
    """Whether the course depends on when the run will end."""
    return isinstance(schedule, LinearDecay | CosineDecay)


def factor(schedule: Schedule, step: int, *, horizon: int | None) -> float:
    """What the base rate is multiplied by at update `step` (0 is the first) of a run of `horizon` updates.

    Without a horizon (a run limited by time, before its first estimate) the rate stays up.
    """
    rise = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    done = 0.0 if horizon is None else min(1.0, step / max(1, horizon))
    match schedule:
        case Constant():
            return rise
        case InverseSquareRoot():
            return rise * min(1.0, math.sqrt(max(1, schedule.warmup) / (step + 1)))
        case LinearDecay():
            return rise if done <= schedule.hold else rise * (1 - done) / (1 - schedule.hold)
        case CosineDecay():
            return rise * (1 + math.cos(math.pi * done)) / 2
        case _:
            assert_never(schedule)
