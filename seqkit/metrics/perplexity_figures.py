"""Perplexity and its relatives: one sum of log-probabilities over counts that do not depend on the model.

A perplexity per token compares models with the same tokens only. Words, characters and bytes are counted in the text as
it stands in the file, so figures per word, character and byte compare any two models of that text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Perplexity", "TextCounts", "counts_of"]


@dataclass(frozen=True)
class TextCounts:
    """How long a text is; the end of each line counts as one word, one character and one byte."""

    lines: int
    words: int  # what white space separates
    characters: int
    bytes: int  # in UTF-8

    def __add__(self, other: TextCounts) -> TextCounts:
        return TextCounts(
            self.lines + other.lines,
            self.words + other.words,
            self.characters + other.characters,
            self.bytes + other.bytes,
        )


def counts_of(lines: Iterable[str]) -> TextCounts:
    """Count lines, words, characters and bytes."""
    total = TextCounts(0, 0, 0, 0)
    for line in lines:
        size = len(line.encode(errors="surrogatepass"))
        total += TextCounts(1, len(line.split()) + 1, len(line) + 1, size + 1)
    return total


@dataclass(frozen=True)
class Perplexity:
    """How well a text was predicted."""

    nll: float  # negative log-likelihood of the whole text, in nats
    tokens: int  # the model's own, ends of lines included
    unknown: int  # of them, not in its vocabulary
    text: TextCounts

    @property
    def per_token(self) -> float:
        """exp(nll / tokens)."""
        return _exp(self.nll / max(1, self.tokens))

    @property
    def per_word(self) -> float:
        """exp(nll / words), each line's end counted as a word."""
        return _exp(self.nll / max(1, self.text.words))

    @property
    def nats_per_character(self) -> float:
        """nll / characters."""
        return self.nll / max(1, self.text.characters)

    @property
    def bits_per_character(self) -> float:
        """nll / characters, in bits."""
        return self.nats_per_character / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """nll / bytes, in bits."""
        return self.nll / max(1, self.text.bytes) / math.log(2)

    @property
    def unknown_share(self) -> float:
        """The share of the tokens that the vocabulary does not have, 0 to 1."""
        return self.unknown / max(1, self.tokens)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
