"""Of many candidates the one that is most like the others (minimum Bayes risk; Eikema and Aziz, 2020)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["expected_utilities"]


def expected_utilities(candidates: Sequence[str], utility: Callable[[str, Sequence[str]], list[float]]) -> list[float]:
    """How good each candidate is on average if any of the candidates may be the truth.

    `utility(hypothesis, references)` compares a text with each of several. Texts that occur often count as often:
    drawn from a model, their frequencies stand for its probabilities. Equal candidates are compared once.
    """
    counts = Counter(candidates)
    references = list(counts)
    weights = [counts[reference] / len(candidates) for reference in references]
    found = {
        text: sum(weight * value for weight, value in zip(weights, utility(text, references), strict=True))
        for text in references
    }
    return [found[text] for text in candidates]
