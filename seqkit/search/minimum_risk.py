"""The candidate that is most like all the others (minimum Bayes risk; Eikema and Aziz, 2020)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["expected_utilities"]


def expected_utilities(candidates: Sequence[str], utility: Callable[[str, Sequence[str]], list[float]]) -> list[float]:
    """The mean utility of each candidate with every candidate as its reference.

    `utility(hypothesis, references)` compares a text with each of several. Texts that occur often count as often:
    drawn from a model, their frequencies stand for its probabilities. Equal candidates are compared once.
    """
    counts = Counter(candidates)
    references = list(counts)
    weights = [counts[reference] / len(candidates) for reference in references]
    utilities = {
        text: sum(weight * value for weight, value in zip(weights, utility(text, references), strict=True))
        for text in references
    }
    return [utilities[text] for text in candidates]
