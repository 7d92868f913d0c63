"""From a model to sequences: beam search, samples, scores of given sequences. Knows no model, only the protocol."""

from seqkit.search.beam import beam
from seqkit.search.forced_score import Scored, score
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.sample import Sampling, sample, stream

__all__ = ["Hypothesis", "Sampling", "Scored", "beam", "sample", "score", "stream"]
