"""From files to batches: corpora, their filtering, encoded examples, batches under a token budget.

`seqkit.data.loading` and `seqkit.data.windows`, which make tensors, are not imported here: this package needs no torch.
"""

from seqkit.data.batching import length_batches, slice_of, token_batches
from seqkit.data.cleaning import Filtered, duplicates, filter_examples, overlap, too_long
from seqkit.data.corpora import MonolingualText, ParallelText, read_lines, read_pairs, read_text
from seqkit.data.datasets import Encoded

__all__ = [
    "Encoded",
    "Filtered",
    "MonolingualText",
    "ParallelText",
    "duplicates",
    "filter_examples",
    "length_batches",
    "overlap",
    "read_lines",
    "read_pairs",
    "read_text",
    "slice_of",
    "token_batches",
    "too_long",
]
