"""How good the output is: scores of corpora and of lines."""

from seqkit.metrics.sacrebleu_scores import Score
from seqkit.metrics.translation_scores import ScoredLine, corpus_scores, exact_match, length_ratio, worst_lines

__all__ = ["Score", "ScoredLine", "corpus_scores", "exact_match", "length_ratio", "worst_lines"]
