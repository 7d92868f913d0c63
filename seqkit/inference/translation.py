"""What goes into a translator and what comes out of it, line by line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqkit.inference.glossary import Glossary
from seqkit.text.vocabulary import UNKNOWN

__all__ = ["Line", "Translation"]


@dataclass(frozen=True)
class Line:
    """A line to be translated, and what is asked of its translation."""

    text: str
    prefix: str = ""  # how the translation begins
    glossary: Glossary | None = None  # for this line, besides that of all lines


@dataclass(frozen=True)
class Translation:
    """One line and what became of it. A blank line becomes an empty text, which no model was asked for."""

    source: str  # as it came
    text: str = ""  # the best translation
    score: float = 0.0  # log_prob after the length reward; with minimum risk, the expected utility
    log_prob: float = 0.0  # of `target_ids` and their ends, in nats
    truncated: bool = False  # the output reached the length limit before it ended
    parts: int = 0  # 0 for a blank line, above 1 where the input was longer than the model takes and was cut
    missing: tuple[str, ...] = ()  # terms that should be in the text and are not
    alternatives: tuple[tuple[str, float], ...] = ()  # what was found besides, best first: text and score
    segments: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()  # what the model read and wrote, a pair a part
    token_scores: tuple[float, ...] = ()  # log-probabilities of `target_ids` and of each end, if asked for
    alignment: tuple[tuple[int, int, float], ...] = ()  # source word, target word, weight; if asked for

    @property
    def source_ids(self) -> tuple[int, ...]:
        """What the model read, without `</s>`."""
        return tuple(id for read, _ in self.segments for id in read)

    @property
    def target_ids(self) -> tuple[int, ...]:
        """What it wrote, without `</s>`."""
        return tuple(id for _, written in self.segments for id in written)

    @property
    def unknown(self) -> int:
        """Source tokens that the vocabulary does not have."""
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
