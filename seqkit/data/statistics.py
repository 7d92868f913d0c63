"""Statistics of a text: its tokens, the frequencies of its n-grams, and how well Zipf's law describes them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NgramCount", "NgramFrequencies", "Statistics", "statistics", "zipf_slope"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class NgramCount:
    """An n-gram and its number of occurrences in a text."""

    tokens: tuple[str, ...]
    count: int


@dataclass(frozen=True, eq=False)
class NgramFrequencies:
    """The frequencies of the n-grams of one order in a text; n-grams do not cross the end of a line."""

    order: int
    ranked: Counts  # (types,) counts of the distinct n-grams, descending
    top: list[NgramCount]  # the most frequent, ties in the order of the text

    @property
    def types(self) -> int:
        """The number of distinct n-grams."""
        return len(self.ranked)

    @property
    def hapaxes(self) -> int:
        """The number of n-grams that occur exactly once (hapax legomena)."""
        return int((self.ranked == 1).sum())

    @property
    def slope(self) -> float | None:
        """`zipf_slope` of the counts; None for fewer than two distinct n-grams."""
        return zipf_slope(self.ranked) if self.types > 1 else None


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts of a text; empty lines are included."""

    lines: int
    tokens: int
    longest: int  # tokens of the longest line
    frequencies: list[NgramFrequencies]  # of unigrams, bigrams and trigrams

    @property
    def mean(self) -> float:
        """The mean number of tokens in a line."""
        return self.tokens / max(self.lines, 1)


def statistics(lines: Iterable[Sequence[str]], *, top: int = 10) -> Statistics:
    """Count tokens and unigrams to trigrams of tokenized lines, which are iterated once.

    `top`: how many of the most frequent n-grams of each order are listed.
    """
    token_ids: dict[str, int] = {}
    collected, sizes = array("i"), array("q")
    for line in lines:
        collected.extend([token_ids.setdefault(token, len(token_ids)) for token in line])
        sizes.append(len(line))
    ids, lengths = np.array(collected, dtype=np.int64), np.array(sizes, dtype=np.int64)
    positions = np.arange(len(ids)) - np.repeat(lengths.cumsum() - lengths, lengths)  # of each token in its line
    vocabulary, frequencies = list(token_ids), []
    ngrams = np.zeros(len(ids), dtype=np.int64)  # for each token, the number of the n-gram of this order ending there
    for order in (1, 2, 3):
        ends = np.flatnonzero(positions >= order - 1)
        prefixes = ngrams[ends - 1] if order > 1 else ngrams
        keys = prefixes * len(vocabulary) + ids[ends]
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        ranking = np.lexsort((first, -counts))
        top_ends = ends[first[ranking[:top]]].tolist()
        top_ngrams = [tuple(vocabulary[id] for id in ids[end - order + 1 : end + 1]) for end in top_ends]
        ranked = counts[ranking]
        best = [NgramCount(tokens, count) for tokens, count in zip(top_ngrams, ranked[:top].tolist(), strict=True)]
        frequencies.append(NgramFrequencies(order, ranked, best))
        ngrams = np.zeros_like(ids)
        ngrams[ends] = inverse
    return Statistics(len(lengths), len(ids), int(lengths.max(initial=0)), frequencies)


def zipf_slope(ranked: Counts) -> float:
    """Slope of log frequency over log rank, for descending counts; Zipf's law (1949) predicts about -1 for words.

    The line is fitted by least squares with weight 1 / rank, which gives each decade of ranks the same influence;
    without weights the many rare tokens would dominate. Raises ValueError for fewer than two counts.
    """
    if len(ranked) < 2:
        raise ValueError(f"a line needs two points, but there are {len(ranked)}")
    ranks = np.arange(1, len(ranked) + 1)
    x, y, weight = np.log(ranks), np.log(ranked), 1 / ranks
    x = x - np.average(x, weights=weight)
    return float((weight * x * y).sum() / (weight * x * x).sum())
