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
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, Protocol, cast

import numpy as np

__all__ = ["Sampler"]

SPACE = "\u2581"
BLOCK = 1000  # lines for which random numbers are drawn at a time
KEPT = 200_000  # cuts looked up at the most
BITS = 64  # decisions drawn for each word; the few that need more make a generator of them

Word = tuple[int, ...]
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


class _Cuts(NamedTuple):
    """What is known of a word."""

    symbols: tuple[Symbol, ...]  # its characters
    first: int  # a bit for each merge that leads to its best cut: with none of them set nothing changes
    seen: int  # a bit for each decision that is seldom gone beyond
    found: dict[int, list[int]]  # decisions seen -> cut


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
        self.cuts: dict[Word, _Cuts] = {}
        self.kept = 0
        self.merging = algorithm == "bpe"

    def __call__(self, lines: Sequence[list[int]], *, seed: int) -> list[list[int]]:
        """Another cut of each line, given its best one, as ids; depends on the lines, their order and the seed only."""
        sampled: list[list[int]] = []
        cut = self._merged if self.merging else self._drawn
        for start in range(0, len(lines), BLOCK):
            numbers = np.random.SeedSequence(entropy=seed, spawn_key=(start // BLOCK,))
            generator = np.random.Generator(np.random.PCG64(numbers))
            words = [self._words(line) for line in lines[start : start + BLOCK]]
            decisions = iter(self._decisions(generator, sum(map(len, words))))
            sampled += [cut(line, decisions) for line in words]
        return sampled

    def _words(self, line: list[int]) -> list[Word]:
        begins = self.begins
        places = [place for place, id in enumerate(line) if begins[id]]
        if not line or not places or places[0] > 0:
            places.insert(0, 0)
        places.append(len(line))
        return [tuple(line[first:last]) for first, last in pairwise(places) if last > first]

    def _decisions(self, generator: np.random.Generator, words: int) -> list[int]:
        """For each word 64 bits: each set with probability `rate`, or even."""
        if not self.merging:
            drawn: list[int] = generator.integers(0, 1 << BITS, size=words, dtype=np.uint64, endpoint=False).tolist()
            return drawn
        drops = generator.random((words, BITS), dtype=np.float32) < self.rate
        packed: list[int] = np.packbits(drops, axis=1).view(np.uint64)[:, 0].tolist()
        return packed

    def _known(self, word: Word) -> _Cuts:
        if word not in self.cuts:
            symbols: list[Symbol] = []
            for id in word:
                symbols += [id] if self.fixed[id] else self.surfaces[id]
            merges = len(symbols) - len(word)
            seen = min(BITS, 2 * merges + 2)
            self.cuts[word] = _Cuts(tuple(symbols), (1 << merges) - 1, (1 << seen) - 1, {})
        return self.cuts[word]

    # Merges

    def _merged(self, words: list[Word], decisions: Iterator[int]) -> list[int]:
        """The words with the merges left out that the decisions name; each is looked up if it can be."""
        line: list[int] = []
        for word in words:
            known = self.cuts.get(word) or self._known(word)
            bits = next(decisions)
            if bits & known.first:
                line += known.found.get(bits & known.seen) or self._new(word, bits)
            else:
                line += word
        return line

    def _new(self, word: Word, bits: int) -> list[int]:
        known = self._known(word)
        stream = _Stream(bits, self.rate)
        cut = self._ids(self._merge(list(known.symbols), stream), word)
        if known.seen >> stream.asked or stream.asked == known.seen.bit_length():
            self.kept += 1
            if self.kept > KEPT:  # what is frequent will soon be back
                self.cuts.clear()
                self.kept = 0
            known.found[bits & known.seen] = cut
        return cut

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

    def _drawn(self, words: list[Word], decisions: Iterator[int]) -> list[int]:
        return [id for word in words for id in self._draw(word, next(decisions))]

    def _draw(self, word: Word, decisions: int) -> list[int]:
        """A cut of the word in proportion to its probability to the power of `rate`, drawn from its end."""
        symbols = self._known(word).symbols
        uniform = random.Random(decisions).random
        sums = self._sums(symbols)
        if sums[-1] == -math.inf:
            return list(word)
        cut, end = [], len(symbols)
        while end > 0:
            edges = [(begin, id, sums[begin] + weight) for begin, id, weight in self._edges(symbols, end)]
            chances = list(accumulate(math.exp(total - sums[end]) for _, _, total in edges))
            begin, id, _ = edges[min(len(edges) - 1, bisect(chances, uniform() * chances[-1]))]
            cut.append(id)
            end = begin
        return cut[::-1]

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
