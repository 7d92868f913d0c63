"""What is counted in labelled text, and the scores that follow from the counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LabelScores", "Scheme", "Spans"]

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU", "plain"]


@dataclass(frozen=True)
class Spans:
    """Counts of spans; one is correct when its first token, its last token and its type are."""

    correct: int
    found: int  # in the hypotheses
    expected: int  # in the references

    @property
    def precision(self) -> float:
        """The share of found spans that are correct, 0 to 100; 0 if none was found."""
        return 100 * self.correct / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """The share of expected spans that were found, 0 to 100; 0 if none was expected."""
        return 100 * self.correct / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 to 100."""
        return 200 * self.correct / (self.found + self.expected) if self.correct else 0.0


@dataclass(frozen=True)
class LabelScores:
    """Counts of a labelled text, and the scores that follow from them."""

    sentences: int
    tokens: int
    correct: int  # tokens with the right label
    scheme: Scheme  # of the references; "plain": no label marks a span
    types: dict[str, Spans]  # by name; empty if no label marks a span

    @property
    def accuracy(self) -> float:
        """The share of tokens with the right label, 0 to 100."""
        return 100 * self.correct / self.tokens

    @property
    def spans(self) -> Spans | None:
        """The counts of all types together; None if no label marks a span."""
        if not self.types:
            return None
        counts = self.types.values()
        return Spans(
            sum(spans.correct for spans in counts),
            sum(spans.found for spans in counts),
            sum(spans.expected for spans in counts),
        )

    @property
    def f1(self) -> float | None:
        """F1 over the spans of all types, 0 to 100; None if no label marks a span."""
        return None if self.spans is None else self.spans.f1

    @property
    def signature(self) -> str:
        """What must be known to compare these scores with others: the scheme, and what was counted."""
        parts = [f"scheme:{self.scheme}", f"sentences:{self.sentences}", f"tokens:{self.tokens}"]
        if self.spans is not None:
            parts += [f"spans:{self.spans.expected}", f"found:{self.spans.found}", f"correct:{self.spans.correct}"]
        return "|".join(parts)
