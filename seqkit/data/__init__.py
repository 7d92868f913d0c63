"""From files to batches: corpora, their cleaning, encoded examples, batches under a token budget.

`seqkit.data.loading`, which makes tensors, is imported by its own name: nothing here needs torch.
"""

from seqkit.data.batching import length_batches, slice_of, token_batches
from seqkit.data.cleaning import Kept, duplicates, keep, overlap, too_long
from seqkit.data.corpora import MonolingualText, ParallelText, read_lines, read_pairs, read_text
from seqkit.data.datasets import Encoded

__all__ = [
    "Encoded",
    "Kept",
    "MonolingualText",
    "ParallelText",
    "duplicates",
    "keep",
    "length_batches",
    "overlap",
    "read_lines",
    "read_pairs",
    "read_text",
    "slice_of",
    "token_batches",
    "too_long",
]
