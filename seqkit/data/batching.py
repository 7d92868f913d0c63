"""Batches under a token budget, a pure function of (lengths, budget, seed, epoch).

Lengths are token counts without `</s>`, which is added to every side; a batch of n examples is as wide as its longest:

    n * (longest target + 1) <= budget          n * (longest source + 1) <= 2 * budget
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import ConfigError

__all__ = ["Indices", "Lengths", "length_batches", "slice_of", "token_batches"]

Indices = NDArray[np.int64]  # (examples,) numbers of examples
Lengths = NDArray[np.int64]  # (examples,) token counts


def token_batches(
    source_lengths: Lengths, target_lengths: Lengths, *, budget: int, seed: int, epoch: int
) -> list[Indices]:
    """Group examples of similar lengths so that no padded batch exceeds the budget; each index is in one batch.

    Examples of equal lengths are grouped differently in each epoch, and the order of the batches differs. Inside a
    batch the examples are sorted by target length and, for equal target lengths, by source length, alternately
    ascending and descending: at the transition to the next target length, source lengths stay similar. Raises
    ConfigError when an example is longer than the budget.
    """
    _check_fit(source_lengths, target_lengths, budget)
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy=seed, spawn_key=(epoch,))))
    order = random.permutation(len(target_lengths))
    target = target_lengths[order]
    source = np.where(target % 2 == 0, source_lengths[order], -source_lengths[order])
    order = order[np.lexsort((source, target))]  # stable: ties remain shuffled
    batches = _cut(order, source_lengths[order] + 1, target_lengths[order] + 1, budget)
    return [batches[index] for index in random.permutation(len(batches))]


def slice_of(batch: Indices, rank: int, world: int) -> Indices:
    """The examples of a batch for one of `world` processes: every `world`-th, as a batch is sorted by length."""
    return batch[rank::world]


def length_batches(lengths: Lengths, *, budget: int) -> list[Indices]:
    """Group one-sided examples, longest first, so that too little memory shows at the first batch.

    No padded batch exceeds `budget` tokens, except that a longer example is a batch by itself.
    """
    order = np.argsort(-lengths, kind="stable")
    widths = lengths[order] + 1
    return _cut(order, widths, widths, budget)


def _check_fit(source_lengths: Lengths, target_lengths: Lengths, budget: int) -> None:
    needed = max(int(target_lengths.max(initial=0)) + 1, -(-(int(source_lengths.max(initial=0)) + 1) // 2))
    if needed > budget:
        raise ConfigError(
            f"train.batch_tokens is {budget}, but the longest training pair needs {needed}",
            f"set train.batch_tokens to {needed} or more, or lower data.maximum_length",
        )


def _cut(order: Indices, source_widths: Lengths, target_widths: Lengths, budget: int) -> list[Indices]:
    """Cut `order` greedily into batches; on plain integers, as a call of numpy for each example would take minutes."""
    starts = []
    size = widest_source = widest_target = 0
    for position, (source, target) in enumerate(zip(source_widths.tolist(), target_widths.tolist(), strict=True)):
        size += 1
        widest_source, widest_target = max(widest_source, source), max(widest_target, target)
        if size > 1 and (size * widest_target > budget or size * widest_source > 2 * budget):
            starts.append(position)
            size, widest_source, widest_target = 1, source, target
    return np.split(order, starts) if len(order) else []
