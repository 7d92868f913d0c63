"""The input and the output of a translator: a line, and its translation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqkit.inference.glossary import Glossary
from seqkit.text.vocabulary import UNKNOWN

__all__ = ["Line", "Translation"]


@dataclass(frozen=True)
class Line:
    """A line to be translated, and what its translation must hold."""

    text: str
    prefix: str = ""  # how the translation begins
    glossary: Glossary | None = None  # for this line, besides that of all lines


@dataclass(frozen=True)
class Translation:
    """One line and its translation. A blank line has an empty translation, for which no model is run."""

    source: str  # the line, unchanged
    text: str = ""  # the best translation
    score: float = 0.0  # log_prob after the length reward; with minimum risk, the expected utility
    log_prob: float = 0.0  # of `target_ids` and their ends, in nats
    truncated: bool = False  # the output reached the length limit before it ended
    parts: int = 0  # 0 for a blank line, above 1 where the input was longer than the model takes and was cut
    missing: tuple[str, ...] = ()  # terms that should be in the text and are not
    alternatives: tuple[tuple[str, float], ...] = ()  # further hypotheses, best first: text and score
    segments: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()  # source and target ids of each part
    token_scores: tuple[float, ...] = ()  # log-probabilities of `target_ids` and of each end, if asked for
    alignment: tuple[tuple[int, int, float], ...] = ()  # source word, target word, weight; if asked for

    @property
    def source_ids(self) -> tuple[int, ...]:
        """The tokens that the model read, without `</s>`."""
        return tuple(id for source, _ in self.segments for id in source)

    @property
    def target_ids(self) -> tuple[int, ...]:
        """The tokens that it wrote, without `</s>`."""
        return tuple(id for _, target in self.segments for id in target)

    @property
    def unknown(self) -> int:
        """The number of source tokens that are not in the vocabulary."""
        return self.source_ids.count(UNKNOWN)

    @property
    def linked_words(self) -> tuple[tuple[str, str], ...]:
        """The words behind `alignment`: source word and target word."""
        source, target = self.source.split(), self.text.split()
        return tuple((source[s], target[t]) for s, t, _ in self.alignment if s < len(source) and t < len(target))

    @property
    def confidence(self) -> float:
        """The mean probability of a token, as a geometric mean: 0 to 1."""
        tokens = len(self.target_ids) + (0 if self.truncated else self.parts)
        return math.exp(self.log_prob / tokens) if tokens else 0.0
