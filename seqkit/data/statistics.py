"""What a text is made of: how many tokens, how different, how often each, and how well Zipf's law describes them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frequencies", "Frequent", "Statistics", "statistics", "zipf_slope"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Frequent:
    """An n-gram and how often it stands in a text."""

    tokens: tuple[str, ...]
    count: int


@dataclass(frozen=True, eq=False)
class Frequencies:
    """How often the n-grams of one order stand in a text; none of them crosses the end of a line."""

    order: int
    ranked: Integers  # (types,) counts of the different n-grams, falling
    top: list[Frequent]  # the most frequent, ties in the order of the text

    @property
    def types(self) -> int:
        """How many different n-grams there are."""
        return len(self.ranked)

    @property
    def hapaxes(self) -> int:
        """How many of them stand in the text just once."""
        return int((self.ranked == 1).sum())

    @property
    def slope(self) -> float | None:
        """`zipf_slope` of the counts; None for fewer than two different n-grams."""
        return zipf_slope(self.ranked) if self.types > 1 else None


@dataclass(frozen=True, eq=False)
class Statistics:
    """A text in numbers. Lengths of lines are in tokens; lines without any count too."""

    lines: int
    tokens: int
    longest: int
    frequencies: list[Frequencies]  # of unigrams, bigrams and trigrams

    @property
    def mean(self) -> float:
        """Tokens a line."""
        return self.tokens / max(self.lines, 1)


def statistics(lines: Iterable[Sequence[str]], *, top: int = 10) -> Statistics:
    """Count the tokens, unigrams to trigrams, of lines; these are read once, so a generator will do."""
    known: dict[str, int] = {}
    collected, sizes = array("i"), array("q")
    for line in lines:
        collected.extend([known.setdefault(token, len(known)) for token in line])
        sizes.append(len(line))
    ids, lengths = np.array(collected, dtype=np.int64), np.array(sizes, dtype=np.int64)
    place = np.arange(len(ids)) - np.repeat(lengths.cumsum() - lengths, lengths)  # of each token in its line
    vocabulary, frequencies = list(known), []
    grams = np.zeros(len(ids), dtype=np.int64)  # number of the n-gram that ends at each token, order by order
    for order in (1, 2, 3):
        ends = np.flatnonzero(place >= order - 1)
        before = grams[ends - 1] if order > 1 else grams
        keys = before * len(vocabulary) + ids[ends]
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        ranking = np.lexsort((first, -counts))
        places = ends[first[ranking[:top]]]
        found = [tuple(vocabulary[id] for id in ids[end - order + 1 : end + 1]) for end in places.tolist()]
        ranked = counts[ranking]
        best = [Frequent(tokens, count) for tokens, count in zip(found, ranked[:top].tolist(), strict=True)]
        frequencies.append(Frequencies(order, ranked, best))
        grams = np.zeros_like(ids)
        grams[ends] = inverse
    return Statistics(len(lengths), len(ids), int(lengths.max(initial=0)), frequencies)


def zipf_slope(ranked: Integers) -> float:
    """Slope of log frequency over log rank, for counts that fall; Zipf's law (1949) says about -1 for words.

    The line is fitted by least squares with weight 1 / rank: each decade of ranks then counts alike, as it does to the
    eye, whereas without weights the many rare tokens would decide alone. Raises ValueError for fewer than two counts.
    """
    if len(ranked) < 2:
        raise ValueError(f"a line needs two points, but there are {len(ranked)}")
    ranks = np.arange(1, len(ranked) + 1)
    x, y, weight = np.log(ranks), np.log(ranked), 1 / ranks
    x = x - np.average(x, weights=weight)
    return float((weight * x * y).sum() / (weight * x * x).sum())
