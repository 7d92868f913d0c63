"""Fast top-k and normalisation over the logits of one step, (N, V), where V is large."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["grouped_topk", "log_normalisers", "topk_superset"]

GROUP = 8  # columns that share one maximum in `grouped_topk`
DIRECT_TOPK_LIMIT = 20_000  # group maxima of a batch up to which one `topk` is faster than `grouped_topk`
BLOCK = 1 << 20  # logits normalised at a time: what a core's cache holds


def grouped_topk(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row of (N, V) and their columns, (N, count) each, as `topk` gives them.

    The largest values lie in the groups of columns with the largest maxima. Maxima are cheap and `topk` of a long row
    is not: this takes half its time on a CPU.
    """
    rows, size = values.shape
    width = size // GROUP
    if width < 4 * count:
        best, columns = values.topk(count)
        return best, columns
    whole = GROUP * width
    maxima = values[:, :whole].view(rows, GROUP, width).amax(dim=1)  # (N, width), group = column modulo width
    groups = maxima.topk(count, sorted=False).indices
    every = torch.arange(size, device=values.device)
    members = groups[:, None, :] + every[:whole:width, None]  # (N, GROUP, count)
    columns = torch.cat([members.flatten(1), every[whole:].expand(rows, -1)], dim=1)
    best, indices = values.gather(1, columns).topk(count)
    return best, columns.gather(1, indices)


def topk_superset(values: Tensor, offsets: Tensor, count: int, *, first: int) -> Tensor:
    """Indices of each sentence that include those of its `count` largest sums: (B, P), unordered, row * V + column.

    The sums are values (N, V) plus an offset a row, offsets (B, W); rows with an offset of -inf are passed over. The
    columns before `first`, and the few that fill no group, are always included. The groups are those of `grouped_topk`,
    compared over all rows of a sentence at once: row by row takes half as long again.
    """
    (sentences, width), size = offsets.shape, values.shape[1]
    groups = (size - first) // GROUP
    if width * groups < 4 * count:
        return torch.arange(width * size, device=values.device).expand(sentences, -1)
    end = first + GROUP * groups
    flat = offsets.reshape(-1, 1)
    maxima = values[:, first:end].view(-1, GROUP, groups).amax(dim=1)  # (N, groups), group = column modulo groups
    maxima = maxima.add_(flat).masked_fill_(flat == -math.inf, -math.inf).view(sentences, -1)
    if maxima.numel() > DIRECT_TOPK_LIMIT:
        best_groups = grouped_topk(maxima, count)[1]
    else:
        best_groups = maxima.topk(count, sorted=False).indices
    members, ungrouped = _columns(first, groups, width, size, values.device)
    origins = best_groups.add(best_groups // groups, alpha=size - groups)  # index of a group's first column - `first`
    return torch.cat([(origins[:, None] + members).flatten(1), ungrouped.expand(sentences, -1)], dim=1)


@lru_cache(maxsize=64)
def _columns(first: int, groups: int, width: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How far the members of a group stand from its number, (GROUP, 1), and the indices in no group, (1, E)."""
    every = torch.arange(size, device=device)
    end = first + GROUP * groups
    ungrouped = torch.cat([every[:first], every[end:]])
    rows = torch.arange(width, device=device)[:, None] * size
    return every[first:end:groups, None], (rows + ungrouped).view(1, -1)


def log_normalisers(logits: Tensor) -> Tensor:
    """`logsumexp` of each row of (N, V), (N,), in blocks by the fused kernel of log_softmax: a third faster."""
    blocks = logits.chunk(math.ceil(logits.numel() / BLOCK))
    normalisers = [block.amax(1) - block.log_softmax(1).amax(1) for block in blocks]
    return normalisers[0] if len(normalisers) == 1 else torch.cat(normalisers)
