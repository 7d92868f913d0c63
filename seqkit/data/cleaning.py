"""Reasons to leave an example out: each finds examples, and `keep` puts them together and counts.

kept = keep(len(text), {"too long": too_long(...), "overlap": overlap(...)})
source = source.take(kept.indices)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kept", "duplicates", "keep", "overlap", "too_long"]

Indices = NDArray[np.int64]


class Kept(NamedTuple):
    """What is left, in order, and what went for which reason."""

    indices: Indices
    dropped: dict[str, int]


def keep(count: int, reasons: Mapping[str, Indices]) -> Kept:
    """What is left of `count` examples; one with several reasons is counted under the first of them."""
    stays = np.ones(count, dtype=np.bool_)
    dropped = {}
    for name, found in reasons.items():
        before = int(stays.sum())
        stays[found] = False
        dropped[name] = before - int(stays.sum())
    return Kept(np.flatnonzero(stays), dropped)


def too_long(source_lengths: NDArray[np.int64], target_lengths: NDArray[np.int64], maximum: int) -> Indices:
    """The examples with a side of more than `maximum` tokens."""
    return np.flatnonzero((source_lengths > maximum) | (target_lengths > maximum))


def overlap(train_sources: Sequence[str], other_sources: Collection[str]) -> Indices:
    """The training examples whose source also stands, letter by letter, in another part: what leaks into a test."""
    others = set(other_sources)
    return np.array([index for index, text in enumerate(train_sources) if text in others], dtype=np.int64)


def duplicates(sources: Sequence[str], targets: Sequence[str]) -> Indices:
    """The pairs that stand in the corpus before, letter by letter; the first of equal pairs is not among them."""
    first: dict[tuple[str, str], int] = {}
    pairs = enumerate(zip(sources, targets, strict=True))
    return np.array([index for index, pair in pairs if first.setdefault(pair, index) != index], dtype=np.int64)
