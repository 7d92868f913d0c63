"""Random segmentations of words into the pieces of a sentencepiece model, the same in every process for equal seeds.

The library itself can sample, but since version 0.2 processes with equal seeds draw different segmentations: processes
that train together would read different texts, and a resumed run would not continue with the text of the first attempt.

Pieces never cross the beginning of a word, so words are segmented independently, and the segmentation that belongs to
some random decisions is cached:

    best segmentation      ▁Wal k | ▁in | ▁snow fall        decisions     01 | 0 | 10...
    random segmentation    ▁W al k | ▁in | ▁snow fal l
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["Segmentation", "SubwordSampler", "WordSequences"]

SPACE = "\u2581"
BLOCK = 1000  # lines for which random numbers are drawn at a time
CACHE_SIZE = 200_000  # segmentations that are cached for later draws
BITS = 64  # decisions drawn for each word; they seed a generator for the few words that need more

Word = tuple[int, ...]  # the ids of a word's best segmentation
Lattice = list[tuple[list[tuple[int, int]], list[float]]]  # by end: (begin, id) of its pieces, cumulative probabilities
Symbol = str | int  # text that may be segmented, or the id of an atomic piece


class _Processor(Protocol):
    """The methods of a sentencepiece processor that a sampler calls."""

    def get_piece_size(self) -> int: ...
    def id_to_piece(self, id: list[int]) -> list[str]: ...
    def get_score(self, id: list[int]) -> list[float]: ...
    def is_control(self, id: list[int]) -> list[bool]: ...
    def is_unknown(self, id: list[int]) -> list[bool]: ...
    def is_byte(self, id: list[int]) -> list[bool]: ...
    def is_unused(self, id: list[int]) -> list[bool]: ...


class Segmentation(NamedTuple):
    """Lines segmented into pieces, concatenated."""

    ids: NDArray[np.int32]  # (pieces,)
    offsets: NDArray[np.int64]  # (lines + 1,): line i is ids[offsets[i]:offsets[i + 1]]


class WordSequences(NamedTuple):
    """Lines split into words, concatenated; a word is a number that its sampler assigned."""

    words: NDArray[np.int64]  # (words,)
    offsets: NDArray[np.int64]  # (lines + 1,): line i is words[offsets[i]:offsets[i + 1]]


class _SequenceTable:
    """A list of id sequences, stored flat, to append to and to read many sequences from at once."""

    def __init__(self) -> None:
        self.ids, self.ends = array("i"), array("q", [0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def add(self, ids: Sequence[int]) -> int:
        """Append a sequence; returns its index."""
        self.ids.extend(ids)
        self.ends.append(len(self.ids))
        return len(self) - 1

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The sequences with these indices concatenated, (tokens,), and their offsets, (indices + 1,)."""
        ids, ends = np.array(self.ids, dtype=np.int32), np.array(self.ends, dtype=np.int64)
        lengths = np.diff(ends)[indices]
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
        shifts = np.repeat(ends[indices] - offsets[:-1], lengths)  # of each id: its position in the table minus here
        return ids[shifts + np.arange(len(shifts))], offsets


class SubwordSampler:
    """BPE-dropout (Provilkov et al., 2020), or sampling from all segmentations of a unigram model (Kudo, 2018)."""

    def __init__(
        self,
        processor: _Processor,
        *,
        algorithm: Literal["bpe", "unigram"],
        rate: float,
        cache_size: int = CACHE_SIZE,
    ) -> None:
        """`rate`: the probability to drop a merge, or the exponent of a segmentation's probability (Kudo's alpha).

        Of all segmentations about `cache_size` are cached: it changes time and memory, never a result.
        """
        ids = list(range(processor.get_piece_size()))
        self.surfaces = processor.id_to_piece(ids)
        kinds = (
            processor.is_control(ids),
            processor.is_unknown(ids),
            processor.is_byte(ids),
            processor.is_unused(ids),
        )
        self.atomic = [any(kind) for kind in zip(*kinds, strict=True)]
        self.ids = {surface: id for id, surface in enumerate(self.surfaces) if not self.atomic[id]}
        self.scores = processor.get_score(ids)
        # If a piece has a space inside, pieces cross the beginnings of words, and a whole line is one word.
        crossing = any(SPACE in self.surfaces[id][1:] for id in self.ids.values())
        self.begins = [not crossing and surface.startswith(SPACE) for surface in self.surfaces]
        self.longest = max(map(len, self.ids), default=1)
        self.rate = rate
        self.cache_size = cache_size
        self.merging = algorithm == "bpe"
        self.words: list[Word] = []
        self.lattices: dict[int, Lattice] = {}  # by word number
        self.numbers: dict[Word, int] = {}
        self.best_masks = array("Q")  # by word number: the decisions that, if none is set, give the best segmentation
        self._clear()

    def _clear(self) -> None:
        """Delete all segmentations but the best one of each word."""
        self.segmentations = _SequenceTable()
        self.best = array("q", [self.segmentations.add(word) for word in self.words])  # by word number: the index
        # word number -> number of decisions -> decisions -> index of the segmentation
        self.cache: dict[int, dict[int, dict[int, int]]] = {}
        self.cached = 0  # segmentations in the cache

    def __call__(self, lines: Sequence[list[int]], *, seed: int) -> list[list[int]]:
        """A random segmentation of each line, given its best one, as ids.

        The result depends only on the lines, their order and the seed.
        """
        offsets = np.fromiter(accumulate(map(len, lines), initial=0), dtype=np.int64, count=len(lines) + 1)
        ids = np.fromiter((id for line in lines for id in line), dtype=np.int32, count=int(offsets[-1]))
        segmentation = self.draw(self.split(Segmentation(ids, offsets)), seed=seed)
        flat: list[int] = segmentation.ids.tolist()
        return [flat[begin:end] for begin, end in pairwise(segmentation.offsets.tolist())]

    def split(self, best: Segmentation) -> WordSequences:
        """The words of lines, given the lines' best segmentation; one call serves any number of draws."""
        begins = np.asarray(self.begins, dtype=bool)[best.ids]
        begins[best.offsets[:-1][np.diff(best.offsets) > 0]] = True
        starts = np.flatnonzero(begins)
        ids: list[int] = best.ids.tolist()
        spans = pairwise([*starts.tolist(), len(ids)])
        words = np.fromiter((self._number(tuple(ids[begin:end])) for begin, end in spans), np.int64, len(starts))
        return WordSequences(words, np.searchsorted(starts, best.offsets))

    def draw(self, lines: WordSequences, *, seed: int) -> Segmentation:
        """A random segmentation of each line; it depends only on the lines, their order and the seed."""
        if len(self.segmentations) > len(self.words) + self.cache_size:  # frequent ones are soon cached again
            self._clear()
        chosen = np.array(self.best, dtype=np.int64)[lines.words]
        for block, start in enumerate(range(0, len(lines.offsets) - 1, BLOCK)):
            span = slice(lines.offsets[start], lines.offsets[min(start + BLOCK, len(lines.offsets) - 1)])
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(block,))))
            choose = self._drop_merges if self.merging else self._sample_lattices
            choose(lines.words[span], chosen[span], generator)
        ids, ends = self.segmentations.read(chosen)
        return Segmentation(ids, ends[lines.offsets])

    def _number(self, word: Word) -> int:
        """The number of a word, assigned at its first occurrence."""
        number = self.numbers.get(word)
        if number is None:
            number = self.numbers[word] = len(self.words)
            self.words.append(word)
            self.best.append(self.segmentations.add(word))
            merges = len(self._symbols(word)) - len(word)
            self.best_masks.append((1 << min(BITS, merges)) - 1)
        return number

    def _symbols(self, word: Word) -> list[Symbol]:
        """The word's characters and the ids of its atomic pieces."""
        symbols: list[Symbol] = []
        for id in word:
            symbols += [id] if self.atomic[id] else self.surfaces[id]
        return symbols

    # BPE-dropout

    def _drop_merges(self, words: NDArray[np.int64], chosen: NDArray[np.int64], generator: np.random.Generator) -> None:
        """Replace segmentations in `chosen`, dropping each merge with probability `rate` by 64 random bits a word."""
        drops = generator.random((len(words), BITS), dtype=np.float32) < self.rate
        bits = np.packbits(drops, axis=1).view(np.uint64)[:, 0]
        changed = np.flatnonzero(bits & np.array(self.best_masks, dtype=np.uint64)[words])
        chosen[changed] = [
            self._decided(word, decisions)
            for word, decisions in zip(words[changed].tolist(), bits[changed].tolist(), strict=True)
        ]

    def _decided(self, number: int, bits: int) -> int:
        """The index of the segmentation that these decisions give for a word.

        The number of decisions that it needs is known only afterwards, so all numbers in the cache are tried.
        """
        cache = self.cache.setdefault(number, {})
        for count, indices in cache.items():
            if (index := indices.get(bits & ((1 << count) - 1))) is not None:
                return index
        word, decisions = self.words[number], _Decisions(bits, self.rate)
        index = self.segmentations.add(self._ids(self._merge(self._symbols(word), decisions), word))
        if decisions.used <= BITS:
            cache.setdefault(decisions.used, {})[bits & ((1 << decisions.used) - 1)] = index
            self.cached += 1
            if self.cached > self.cache_size:  # within one large text
                self.cache, self.cached = {}, 0
        return index

    def _merge(self, symbols: list[Symbol], dropped: _Decisions) -> list[Symbol]:
        """Algorithm 1 of Provilkov et al.: each step drops possible merges at random and applies the best other one.

        Deciding in order of priority until a merge is not dropped is equivalent to deciding on all of them.
        """
        costs = [self._cost(left, right) for left, right in pairwise(symbols)]
        while True:
            skipped = []
            while (best := min(costs, default=math.inf)) < math.inf:
                position = costs.index(best)
                if not dropped():
                    break
                skipped.append((position, best))
                costs[position] = math.inf
            else:
                return symbols
            for index, cost in skipped:
                costs[index] = cost
            symbols[position : position + 2] = [cast(str, symbols[position]) + cast(str, symbols[position + 1])]
            del costs[position]
            for pair in (position - 1, position):
                if 0 <= pair < len(costs):
                    costs[pair] = self._cost(symbols[pair], symbols[pair + 1])

    def _cost(self, left: Symbol, right: Symbol) -> float:
        """The rank of a merge, which is applied before those of higher cost; infinity where there is none."""
        if isinstance(left, str) and isinstance(right, str) and (id := self.ids.get(left + right)) is not None:
            return -self.scores[id]
        return math.inf

    def _ids(self, symbols: Sequence[Symbol], word: Word) -> list[int]:
        """The pieces' ids; a word with a character that is no piece keeps its best segmentation."""
        ids = [symbol if isinstance(symbol, int) else self.ids.get(symbol, -1) for symbol in symbols]
        return list(word) if -1 in ids else ids

    # Unigram models

    def _sample_lattices(
        self, words: NDArray[np.int64], chosen: NDArray[np.int64], generator: np.random.Generator
    ) -> None:
        """Draw a segmentation of each word with a probability proportional to its own to the power of `rate`."""
        if len(self.lattices) > self.cache_size:
            self.lattices.clear()
        seeds = generator.integers(0, 1 << BITS, size=len(words), dtype=np.uint64, endpoint=False)
        chosen[:] = [
            self.segmentations.add(self._sample_lattice(word, seed))
            for word, seed in zip(words.tolist(), seeds.tolist(), strict=True)
        ]

    def _sample_lattice(self, number: int, seed: int) -> Sequence[int]:
        """A segmentation of a word, drawn from its end to its beginning (backward sampling)."""
        lattice = self.lattices.get(number)
        if lattice is None:
            lattice = self._lattice(self._symbols(self.words[number]))
            self.lattices[number] = lattice
        if not lattice:
            return self.words[number]
        uniform = random.Random(seed).random
        ids, end = [], len(lattice)
        while end > 0:
            edges, cumulative = lattice[end - 1]
            end, id = edges[min(len(edges) - 1, bisect(cumulative, uniform() * cumulative[-1]))]
            ids.append(id)
        return ids[::-1]

    def _lattice(self, symbols: Sequence[Symbol]) -> Lattice:
        """The edges into every position with their cumulative probabilities; empty if there is no segmentation."""
        sums = self._sums(symbols)
        if sums[-1] == -math.inf:
            return []
        lattice = []
        for end in range(1, len(symbols) + 1):
            edges = [(begin, id, sums[begin] + weight) for begin, id, weight in self._edges(symbols, end)]
            cumulative = list(accumulate(math.exp(total - sums[end]) for _, _, total in edges if sums[end] > -math.inf))
            lattice.append(([(begin, id) for begin, id, _ in edges], cumulative))
        return lattice

    def _sums(self, symbols: Sequence[Symbol]) -> list[float]:
        """For each prefix, the logarithm of the summed weights of its segmentations (forward filtering)."""
        sums = [0.0]
        for end in range(1, len(symbols) + 1):
            totals = [sums[begin] + weight for begin, _, weight in self._edges(symbols, end)]
            maximum = max(totals, default=-math.inf)
            total = maximum if maximum == -math.inf else maximum + math.log(sum(math.exp(t - maximum) for t in totals))
            sums.append(total)
        return sums

    def _edges(self, symbols: Sequence[Symbol], end: int) -> Iterator[tuple[int, int, float]]:
        """The pieces that end at a position: the beginning, the id and the weight of each."""
        last = symbols[end - 1]
        if isinstance(last, int):
            yield end - 1, last, 0.0
            return
        surface = ""
        for begin in range(end - 1, max(-1, end - 1 - self.longest), -1):
            symbol = symbols[begin]
            if isinstance(symbol, int):
                return
            surface = symbol + surface
            if (id := self.ids.get(surface)) is not None:
                yield begin, id, self.rate * self.scores[id]


class _Decisions:
    """Whether to drop the next merge: one bit each, the lowest first, and then a generator that the bits seed."""

    def __init__(self, bits: int, rate: float) -> None:
        self.bits, self.rate = bits, rate
        self.used = 0
        self.generator: random.Random | None = None

    def __call__(self) -> bool:
        self.used += 1
        if self.used <= BITS:
            return bool(self.bits >> (self.used - 1) & 1)
        self.generator = self.generator or random.Random(self.bits)
        return self.generator.random() < self.rate
