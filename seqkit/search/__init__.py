"""From a model to sequences: beam search, and the scores of given sequences. Knows no model, only the protocol."""

from seqkit.search.beam import beam
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.score import Scored, score

__all__ = ["Hypothesis", "Scored", "beam", "score"]
