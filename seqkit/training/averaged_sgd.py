"""When averaging begins: plain steps first, and their mean once they stop improving the validation score."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqkit.training.callbacks import is_better
from seqkit.training.moving_average import Average
from seqkit.training.trainer import Callback, Trainer, ValidationReport

__all__ = ["AveragingTrigger", "stopped_improving"]


class AveragingTrigger(Callback):
    """Begins an average when validation stops improving; `Averaging` keeps it up from then on.

    The scores that decide are kept in `Progress`, so that a resumed run begins at the same step.
    """

    def __init__(self, average: Average, *, patience: int, metric: str) -> None:
        self.average = average
        self.patience = patience
        self.metric = metric

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        """Begin if this score is worse than one of long enough ago."""
        if self.average.begun:
            return
        score = report.scores[self.metric]
        scores = trainer.progress.scores
        scores.append(score if math.isfinite(score) else None)
        if stopped_improving(scores, patience=self.patience, metric=self.metric):
            self.average.begin()


def stopped_improving(scores: Sequence[float | None], *, patience: int, metric: str) -> bool:
    """Whether the last score is worse than one at least `patience` validations before it; None: it was not finite.

    The non-monotonic criterion of Merity et al. (2018): a dip is forgiven as long as it does not undo the gains of so
    many validations.
    """
    last, earlier = scores[-1], scores[:-patience]
    return any(score is not None and is_better(score, last, metric=metric) for score in earlier)
