"""Random cuts of words into the pieces of a sentencepiece model, the same in every process for the same seed.

The library can sample too, but since 0.2 each process that seeds it alike draws something else: of several processes
that train together each would read another text, and a resumed run would go on with another than it had.

Pieces never reach over the beginning of a word, so a word is cut apart from its neighbours, and what few random
decisions make of it is looked up:

    best cut of a line   ▁Wal k | ▁in | ▁snow fall        decisions     01 | 0 | 10...
    its random cut       ▁W al k | ▁in | ▁snow fal l
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

__all__ = ["Cut", "Sampler", "Sliced"]

SPACE = "\u2581"
BLOCK = 1000  # lines for which random numbers are drawn at a time
KEPT = 200_000  # cuts that are kept for the next draw at the most
BITS = 64  # decisions drawn for each word; the few that need more make a generator of them

Word = tuple[int, ...]
Lattice = list[tuple[list[tuple[int, int]], list[float]]]  # by end: where pieces begin, their ids, summed chances
Symbol = str | int  # text that may be cut anew, or the id of a piece that stands for itself


class _Pieces(Protocol):
    """What is asked of a sentencepiece processor."""

    def get_piece_size(self) -> int: ...
    def id_to_piece(self, id: list[int]) -> list[str]: ...
    def get_score(self, id: list[int]) -> list[float]: ...
    def is_control(self, id: list[int]) -> list[bool]: ...
    def is_unknown(self, id: list[int]) -> list[bool]: ...
    def is_byte(self, id: list[int]) -> list[bool]: ...
    def is_unused(self, id: list[int]) -> list[bool]: ...


class Cut(NamedTuple):
    """Lines cut into pieces, end to end."""

    ids: NDArray[np.int32]  # (pieces,)
    offsets: NDArray[np.int64]  # (lines + 1,): line i is ids[offsets[i]:offsets[i + 1]]


class Sliced(NamedTuple):
    """Lines cut into words, end to end, each word a number that its sampler gave it."""

    words: NDArray[np.int64]  # (words,)
    offsets: NDArray[np.int64]  # (lines + 1,)


class _Table:
    """Sequences of ids, to which others can be added and which are read many at a time."""

    def __init__(self) -> None:
        self.ids, self.ends = array("i"), array("q", [0])

    def __len__(self) -> int:
        return len(self.ends) - 1

    def add(self, ids: Sequence[int]) -> int:
        """Where the new sequence stands."""
        self.ids.extend(ids)
        self.ends.append(len(self.ids))
        return len(self) - 1

    def read(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The chosen sequences end to end, (tokens,), and where each ends, (chosen + 1,), from 0 on."""
        ids, ends = np.array(self.ids, dtype=np.int32), np.array(self.ends, dtype=np.int64)
        lengths = np.diff(ends)[chosen]
        places = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
        moved = np.repeat(ends[chosen] - places[:-1], lengths)  # how far each id lies from its new place
        return ids[moved + np.arange(len(moved))], places


class Sampler:
    """BPE-dropout (Provilkov et al., 2020), or sampling from all cuts of a unigram model (Kudo, 2018)."""

    def __init__(self, pieces: _Pieces, *, algorithm: Literal["bpe", "unigram"], rate: float) -> None:
        """`rate`: the probability to leave out a merge, or the exponent of a cut's probability (Kudo's alpha)."""
        ids = list(range(pieces.get_piece_size()))
        self.surfaces = pieces.id_to_piece(ids)
        kinds = (pieces.is_control(ids), pieces.is_unknown(ids), pieces.is_byte(ids), pieces.is_unused(ids))
        self.fixed = [any(kind) for kind in zip(*kinds, strict=True)]
        self.ids = {surface: id for id, surface in enumerate(self.surfaces) if not self.fixed[id]}
        self.scores = pieces.get_score(ids)
        whole = any(SPACE in self.surfaces[id][1:] for id in self.ids.values())  # then a line is one word
        self.begins = [not whole and surface.startswith(SPACE) for surface in self.surfaces]
        self.longest = max(map(len, self.ids), default=1)
        self.rate = rate
        self.merging = algorithm == "bpe"
        self.words: list[Word] = []
        self.lattices: dict[int, Lattice] = {}  # of words
        self.numbers: dict[Word, int] = {}
        self.first = array("Q")  # of a word's decisions the bits that lead to its best cut where none is set
        self._forget()

    def _forget(self) -> None:
        """Keep of all cuts the best one of each word."""
        self.cuts = _Table()
        self.best = array("q", [self.cuts.add(word) for word in self.words])
        self.found: dict[int, dict[int, dict[int, int]]] = {}  # word -> number of decisions -> the decisions -> cut
        self.kept = 0  # cuts found

    def __call__(self, lines: Sequence[list[int]], *, seed: int) -> list[list[int]]:
        """Another cut of each line, given its best one, as ids; depends on the lines, their order and the seed only."""
        offsets = np.fromiter(accumulate(map(len, lines), initial=0), dtype=np.int64, count=len(lines) + 1)
        ids = np.fromiter((id for line in lines for id in line), dtype=np.int32, count=int(offsets[-1]))
        cut = self.draw(self.split(Cut(ids, offsets)), seed=seed)
        flat: list[int] = cut.ids.tolist()
        return [flat[begin:end] for begin, end in pairwise(cut.offsets.tolist())]

    def split(self, best: Cut) -> Sliced:
        """The words of lines, given the lines' best cuts: needed once, however often they are cut anew."""
        begins = np.asarray(self.begins, dtype=bool)[best.ids]
        begins[best.offsets[:-1][np.diff(best.offsets) > 0]] = True
        starts = np.flatnonzero(begins)
        ids: list[int] = best.ids.tolist()
        spans = pairwise([*starts.tolist(), len(ids)])
        words = np.fromiter((self._number(tuple(ids[begin:end])) for begin, end in spans), np.int64, len(starts))
        return Sliced(words, np.searchsorted(starts, best.offsets))

    def draw(self, lines: Sliced, *, seed: int) -> Cut:
        """A random cut of each line; depends on the lines, their order and the seed only."""
        if len(self.cuts) > len(self.words) + KEPT:  # what is frequent will soon be back
            self._forget()
        chosen = np.array(self.best, dtype=np.int64)[lines.words]
        for block, start in enumerate(range(0, len(lines.offsets) - 1, BLOCK)):
            own = slice(lines.offsets[start], lines.offsets[min(start + BLOCK, len(lines.offsets) - 1)])
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(block,))))
            choose = self._merged if self.merging else self._drawn
            choose(lines.words[own], chosen[own], generator)
        ids, ends = self.cuts.read(chosen)
        return Cut(ids, ends[lines.offsets])

    def _number(self, word: Word) -> int:
        """The number of a word."""
        number = self.numbers.get(word)
        if number is None:
            number = self.numbers[word] = len(self.words)
            self.words.append(word)
            self.best.append(self.cuts.add(word))
            merges = len(self._symbols(word)) - len(word)
            self.first.append((1 << min(BITS, merges)) - 1)
        return number

    def _symbols(self, word: Word) -> list[Symbol]:
        """The word's characters; a piece that stands for itself stays whole."""
        symbols: list[Symbol] = []
        for id in word:
            symbols += [id] if self.fixed[id] else self.surfaces[id]
        return symbols

    # Merges

    def _merged(self, words: NDArray[np.int64], chosen: NDArray[np.int64], generator: np.random.Generator) -> None:
        """Leave out the merges that 64 random bits for each word name, each with probability `rate`."""
        drops = generator.random((len(words), BITS), dtype=np.float32) < self.rate
        bits = np.packbits(drops, axis=1).view(np.uint64)[:, 0]
        other = np.flatnonzero(bits & np.array(self.first, dtype=np.uint64)[words])
        chosen[other] = [
            self._cut(word, decisions)
            for word, decisions in zip(words[other].tolist(), bits[other].tolist(), strict=True)
        ]

    def _cut(self, number: int, bits: int) -> int:
        """The cut that these decisions make of a word, as a place among all cuts.

        How many of them are asked for is known behind the last one, so every number that occurred is tried.
        """
        known = self.found.setdefault(number, {})
        for asked, cuts in known.items():
            if (place := cuts.get(bits & ((1 << asked) - 1))) is not None:
                return place
        word, stream = self.words[number], _Stream(bits, self.rate)
        place = self.cuts.add(self._ids(self._merge(self._symbols(word), stream), word))
        if stream.asked <= BITS:
            known.setdefault(stream.asked, {})[bits & ((1 << stream.asked) - 1)] = place
            self.kept += 1
            if self.kept > KEPT:  # in the midst of a large text
                self.found, self.kept = {}, 0
        return place

    def _merge(self, symbols: list[Symbol], dropped: _Stream) -> list[Symbol]:
        """Algorithm 1 of the paper: at each step every possible merge is left out at random, and the best is made.

        Asking in order of merit until one is not left out comes to the same.
        """
        costs = [self._cost(left, right) for left, right in pairwise(symbols)]
        while True:
            out = []
            while (best := min(costs, default=math.inf)) < math.inf:
                place = costs.index(best)
                if not dropped():
                    break
                out.append((place, best))
                costs[place] = math.inf
            else:
                return symbols
            for left_out, cost in out:
                costs[left_out] = cost
            symbols[place : place + 2] = [cast(str, symbols[place]) + cast(str, symbols[place + 1])]
            del costs[place]
            for pair in (place - 1, place):
                if 0 <= pair < len(costs):
                    costs[pair] = self._cost(symbols[pair], symbols[pair + 1])

    def _cost(self, left: Symbol, right: Symbol) -> float:
        """How late a merge comes; for ever, where there is none."""
        if isinstance(left, str) and isinstance(right, str) and (id := self.ids.get(left + right)) is not None:
            return -self.scores[id]
        return math.inf

    def _ids(self, symbols: Sequence[Symbol], word: Word) -> list[int]:
        """The pieces' ids; a word of which not every character is a piece keeps its best cut."""
        cut = [symbol if isinstance(symbol, int) else self.ids.get(symbol, -1) for symbol in symbols]
        return list(word) if -1 in cut else cut

    # Lattices

    def _drawn(self, words: NDArray[np.int64], chosen: NDArray[np.int64], generator: np.random.Generator) -> None:
        """Draw a cut of each word in proportion to its probability to the power of `rate`."""
        if len(self.lattices) > KEPT:
            self.lattices.clear()
        seeds = generator.integers(0, 1 << BITS, size=len(words), dtype=np.uint64, endpoint=False)
        chosen[:] = [
            self.cuts.add(self._draw(word, seed)) for word, seed in zip(words.tolist(), seeds.tolist(), strict=True)
        ]

    def _draw(self, number: int, seed: int) -> Sequence[int]:
        """One cut of a word, drawn from its end (backward sampling)."""
        lattice = self.lattices.get(number)
        if lattice is None:
            lattice = self._lattice(self._symbols(self.words[number]))
            self.lattices[number] = lattice
        if not lattice:
            return self.words[number]
        uniform = random.Random(seed).random
        cut, end = [], len(lattice)
        while end > 0:
            edges, chances = lattice[end - 1]
            end, id = edges[min(len(edges) - 1, bisect(chances, uniform() * chances[-1]))]
            cut.append(id)
        return cut[::-1]

    def _lattice(self, symbols: Sequence[Symbol]) -> Lattice:
        """The edges of every end with their chances; nothing for what has no cut into pieces."""
        sums = self._sums(symbols)
        if sums[-1] == -math.inf:
            return []
        lattice = []
        for end in range(1, len(symbols) + 1):
            edges = [(begin, id, sums[begin] + weight) for begin, id, weight in self._edges(symbols, end)]
            chances = list(accumulate(math.exp(total - sums[end]) for _, _, total in edges if sums[end] > -math.inf))
            lattice.append(([(begin, id) for begin, id, _ in edges], chances))
        return lattice

    def _sums(self, symbols: Sequence[Symbol]) -> list[float]:
        """The logarithm of the summed weights of all cuts of each beginning (forward filtering)."""
        sums = [0.0]
        for end in range(1, len(symbols) + 1):
            totals = [sums[begin] + weight for begin, _, weight in self._edges(symbols, end)]
            most = max(totals, default=-math.inf)
            sums.append(most if most == -math.inf else most + math.log(sum(math.exp(t - most) for t in totals)))
        return sums

    def _edges(self, symbols: Sequence[Symbol], end: int) -> Iterator[tuple[int, int, float]]:
        """The pieces that end there: where each begins, its id and its weight."""
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


class _Stream:
    """Decisions from bits, the lowest first; after the last, from a generator that they seed."""

    def __init__(self, bits: int, rate: float) -> None:
        self.bits, self.rate = bits, rate
        self.asked = 0
        self.more: random.Random | None = None

    def __call__(self) -> bool:
        self.asked += 1
        if self.asked <= BITS:
            return bool(self.bits >> (self.asked - 1) & 1)
        self.more = self.more or random.Random(self.bits)
        return self.more.random() < self.rate
