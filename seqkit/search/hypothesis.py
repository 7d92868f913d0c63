"""The result of a search: one sequence, its log-probability and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.settings import Normalisation

__all__ = ["BOS", "EOS", "PAD", "Hypothesis", "length_normalised"]

PAD, BOS, EOS = 0, 1, 2  # padding, <s> and </s> in every vocabulary


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence; `log_prob` and `score` are in nats and count `</s>` when the hypothesis is finished."""

    ids: tuple[int, ...]  # without <s> and </s>
    log_prob: float  # sum over the generated tokens, by the model alone
    score: float  # the sum with the changes of the search's rules, after length normalisation
    finished: bool  # False: cut off (at the maximum length, or where nothing may follow), without </s>


def length_normalised(log_prob: float, *, length: int, reward: float, normalisation: Normalisation = "power") -> float:
    """`log_prob` divided by a power of the length, which counts `</s>`; with a `reward` of 0 it is the sum itself.

    power: `length^reward`, the mean per token at 1 (Boulanger-Lewandowski et al., 2013); gnmt: `((5 + length) /
    6)^reward` (Wu et al., 2016, equation 14). A sum of log-probabilities alone favours short sequences.
    """
    length = max(length, 1)
    return log_prob / float((length if normalisation == "power" else (5 + length) / 6) ** reward)
