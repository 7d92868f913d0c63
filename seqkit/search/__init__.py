"""From a model to sequences: beam search, sampling, scores of given sequences; it knows no model, only the protocol."""

from seqkit.search.beam import beam
from seqkit.search.forced_score import ForcedScore, forced_scores
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.sample import sample, stream

__all__ = ["ForcedScore", "Hypothesis", "beam", "forced_scores", "sample", "stream"]
