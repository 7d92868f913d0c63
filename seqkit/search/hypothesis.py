"""What search gives back: one sequence, its probability and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BOS", "EOS", "Hypothesis", "rewarded"]

BOS, EOS = 1, 2  # <s> and </s> in every vocabulary; 0 is padding


@dataclass(frozen=True)
class Hypothesis:
    """A generated sequence, in nats; `log_prob` and `score` count `</s>` when the hypothesis is finished."""

    ids: tuple[int, ...]  # without <s> and </s>
    log_prob: float  # sum over the generated tokens
    score: float  # log_prob after the length reward
    finished: bool  # False: cut off (at the maximum length, or where nothing may follow), without </s>


def rewarded(log_prob: float, *, length: int, reward: float) -> float:
    """`log_prob / length^reward`: 0 leaves the sum, 1 is the mean per token; `length` counts `</s>`.

    The plain power of Boulanger-Lewandowski et al. (2013); a sum of log-probabilities alone favours short sequences.
    """
    return log_prob / float(max(length, 1) ** reward)
