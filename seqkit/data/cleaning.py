"""Filters of training examples: functions that find examples to drop, and `filter_examples`, which applies them.

filtered = filter_examples(len(text), {"too long": too_long(...), "overlap": overlap(...)})
source = source.take(filtered.indices)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seqkit.data.batching import Indices, Lengths

__all__ = ["Filtered", "duplicates", "filter_examples", "overlap", "too_long"]


class Filtered(NamedTuple):
    """The examples that a filter leaves, and how many it dropped."""

    indices: Indices  # (examples,) ascending
    dropped: dict[str, int]  # by reason


def filter_examples(count: int, reasons: Mapping[str, Indices]) -> Filtered:
    """Drop the listed examples of `count`; `reasons`: reason -> indices to drop.

    An example with several reasons is counted under the first of them.
    """
    kept = np.ones(count, dtype=np.bool_)
    dropped = {}
    for name, indices in reasons.items():
        before = int(kept.sum())
        kept[indices] = False
        dropped[name] = before - int(kept.sum())
    return Filtered(np.flatnonzero(kept), dropped)


def too_long(source_lengths: Lengths, target_lengths: Lengths, maximum: int) -> Indices:
    """The indices of examples with a side of more than `maximum` tokens."""
    return np.flatnonzero((source_lengths > maximum) | (target_lengths > maximum))


def overlap(train_sources: Sequence[str], other_sources: Collection[str]) -> Indices:
    """The indices of training examples whose source is identical to one of another set, such as the test set."""
    other_set = set(other_sources)
    return np.array([index for index, text in enumerate(train_sources) if text in other_set], dtype=np.int64)


def duplicates(sources: Sequence[str], targets: Sequence[str]) -> Indices:
    """The indices of pairs identical to an earlier one; the first of identical pairs is not among them."""
    first: dict[tuple[str, str], int] = {}
    pairs = enumerate(zip(sources, targets, strict=True))
    return np.array([index for index, pair in pairs if first.setdefault(pair, index) != index], dtype=np.int64)
