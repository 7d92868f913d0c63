"""Many source sentences through one search: batches by length, results in the order of the sources."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from seqkit.batch import pad
from seqkit.data.batching import length_batches
from seqkit.search.beam import beam
from seqkit.search.hypothesis import EOS, Hypothesis
from seqkit.settings import Search
from seqkit.state import Decodable

__all__ = ["search_many"]


def search_many(
    model: Decodable, sources: Sequence[Sequence[int]], settings: Search, *, device: torch.device
) -> list[list[Hypothesis]]:
    """The n-best hypotheses of each source (ids without `</s>`); an empty source gets an empty list.

    On a CPU, batches go side by side, one a thread: the products of one step are too small to share out well.
    """
    found: list[list[Hypothesis]] = [[] for _ in sources]
    filled = np.array([index for index, source in enumerate(sources) if len(source)], dtype=np.int64)
    lengths = np.array([len(sources[index]) for index in filled], dtype=np.int64)
    if not len(filled):
        return found
    budget = max(settings.batch_tokens // settings.beam, int(lengths.max()) + 1)
    batches = [filled[batch].tolist() for batch in length_batches(lengths, budget=budget)]

    def run(indices: list[int]) -> None:
        source = pad([[*sources[index], EOS] for index in indices]).to(device)
        for index, hypotheses in zip(indices, beam(model, source, settings), strict=True):
            found[index] = hypotheses

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(batches) == 1:
        for indices in batches:
            run(indices)
        return found
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, len(batches))) as pool:
            for _ in pool.map(run, batches):  # raises what a thread raised
                pass
    finally:
        torch.set_num_threads(threads)
    return found
