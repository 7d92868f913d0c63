"""What search gives back: one sequence, its probability and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.settings import Normalisation

__all__ = ["BOS", "EOS", "PAD", "Hypothesis", "rewarded"]

PAD, BOS, EOS = 0, 1, 2  # padding, <s> and </s> in every vocabulary


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence, in nats; `log_prob` and `score` count `</s>` when the hypothesis is finished."""

    ids: tuple[int, ...]  # without <s> and </s>
    log_prob: float  # sum over the generated tokens, as the model has them
    score: float  # log_prob, changed by the rules of the search, after the length reward
    finished: bool  # False: cut off (at the maximum length, or where nothing may follow), without </s>


def rewarded(log_prob: float, *, length: int, reward: float, normalisation: Normalisation = "power") -> float:
    """`log_prob` divided by what makes up for its length, which counts `</s>`: 0 leaves the sum.

    power: `length^reward`, the mean per token at 1 (Boulanger-Lewandowski et al., 2013); gnmt: `((5 + length) /
    6)^reward` (Wu et al., 2016, equation 14). A sum of log-probabilities alone favours short sequences.
    """
    length = max(length, 1)
    return log_prob / float((length if normalisation == "power" else (5 + length) / 6) ** reward)
