"""What training minimises: sums over real positions, whose means do not depend on batches or processes."""

from seqkit.loss.cross_entropy import cross_entropy
from seqkit.loss.r_drop import agreeing_cross_entropy
from seqkit.loss.tally import Tally

__all__ = ["Tally", "agreeing_cross_entropy", "cross_entropy"]
