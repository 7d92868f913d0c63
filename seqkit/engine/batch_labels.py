"""Many sentences through one labeller: batches by length, labels in the order of the sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise

import numpy as np
import torch

from seqkit.data.batching import length_batches, slice_of
from seqkit.data.datasets import Encoded
from seqkit.data.loading import label_batch
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.settings import Labelled, Recipe
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import UNKNOWN

__all__ = ["BUDGET", "label_batches", "label_names", "longest_part", "token_ids"]

BUDGET = 4096  # tokens labelled at a time


def token_ids(codec: Codec, sentences: Sequence[Sequence[str]]) -> Encoded:
    """The ids of tokenised sentences, one for each token; a token that the codec would cut further is unknown."""
    distinct = list(dict.fromkeys(chain.from_iterable(sentences)))
    encoded = zip(distinct, codec.encode_many(distinct), strict=True)
    ids = {token: numbers[0] if len(numbers) == 1 else UNKNOWN for token, numbers in encoded}
    return Encoded.from_lists([ids[token] for token in sentence] for sentence in sentences)


def label_names(codec: Codec, labels: Encoded) -> list[list[str]]:
    """The labels that ids stand for."""
    names = codec.tokens(labels.ids.tolist())
    return [names[begin:end] for begin, end in pairwise(labels.offsets.tolist())]


def longest_part(recipe: Recipe, data: Labelled) -> int:
    """How many tokens a model reads at once: twice what was trained on, as far as there are positions for them."""
    longest, reach = 2 * data.maximum_length, recipe.model.reach
    if reach is not None:
        longest = min(longest, reach - 1)  # `</s>` has one too
    return max(longest, 1)


@torch.no_grad()
def label_batches(
    model: SequenceLabeller,
    tokens: Encoded,
    *,
    longest: int,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
    batch_done: Callable[[], object] | None = None,
) -> Encoded:
    """The most probable label of each token; sentences of more than `longest` tokens are read in parts.

    `share` (rank, world) labels this process's part of the batches only and leaves the ids of the rest at 0.
    `batch_done` is called after each batch and may raise to leave the rest.
    """
    predicted = np.zeros(len(tokens.ids), dtype=np.int32)
    parts = _parts(tokens, longest)
    for indices in length_batches(parts.lengths, budget=BUDGET):
        mine = slice_of(indices, *share)
        if not len(mine):
            continue
        batch = label_batch(parts, parts, mine)
        assert batch.source is not None  # labelled batches always have one
        ids = model.predict(batch.source.to(device)).cpu().numpy()
        counted = batch.targets.mask.numpy()
        positions = parts.offsets[mine][:, None] + np.arange(ids.shape[1])
        predicted[positions[counted]] = ids[counted]
        if batch_done is not None:
            batch_done()
    return Encoded(predicted, tokens.offsets)


def _parts(tokens: Encoded, longest: int) -> Encoded:
    """The sentences in parts of at most `longest` tokens, in their order; sentences without tokens are left out."""
    long = np.flatnonzero(tokens.lengths > longest)
    cuts = [np.arange(tokens.offsets[i], tokens.offsets[i + 1], longest) for i in long]
    return Encoded(tokens.ids, np.unique(np.concatenate([tokens.offsets, *cuts])))
