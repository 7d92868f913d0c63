"""How good the output is: scores of corpora and of lines."""

from seqkit.metrics.bleu import Score, ScoredLine, bleu, corpus_scores, exact_match, length_ratio, worst_lines

__all__ = ["Score", "ScoredLine", "bleu", "corpus_scores", "exact_match", "length_ratio", "worst_lines"]
