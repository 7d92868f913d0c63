"""Training losses: sums over real positions, whose means do not depend on batches or processes."""

from seqkit.loss.cross_entropy import cross_entropy
from seqkit.loss.r_drop import r_drop_cross_entropy
from seqkit.loss.tally import Tally

__all__ = ["Tally", "cross_entropy", "r_drop_cross_entropy"]
