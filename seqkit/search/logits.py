"""Arithmetic over the logits of one step, (N, V), where a vocabulary is long and most of it does not matter."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["largest", "log_normalisers", "promising"]

GROUP = 8  # columns that share one maximum in `largest`
FEW = 20_000  # group maxima of a batch up to which one `topk` is faster than looking through them in groups
BLOCK = 1 << 20  # logits normalised at a time: what a core's cache holds


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
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
    best, at = values.gather(1, columns).topk(count)
    return best, columns.gather(1, at)


def promising(values: Tensor, offsets: Tensor, count: int, *, first: int) -> Tensor:
    """Places of each sentence among which are its `count` largest sums, (B, P), in no order: row of W times V + column.

    What is summed are values (N, V) and what their rows have already, offsets (B, W), whose rows with -inf are passed
    over; columns before `first`, and the few that fill no group, are always among the places. Sentences are looked
    through as a whole by the means of `largest`: many of them take half as long again hypothesis by hypothesis.
    """
    (sentences, width), size = offsets.shape, values.shape[1]
    groups = (size - first) // GROUP
    if width * groups < 4 * count:
        return torch.arange(width * size, device=values.device).expand(sentences, -1)
    end = first + GROUP * groups
    flat = offsets.reshape(-1, 1)
    maxima = values[:, first:end].view(-1, GROUP, groups).amax(dim=1)  # (N, groups), group = column modulo groups
    maxima = maxima.add_(flat).masked_fill_(flat == -math.inf, -math.inf).view(sentences, -1)
    chosen = largest(maxima, count)[1] if maxima.numel() > FEW else maxima.topk(count, sorted=False).indices
    members, others = _columns(first, groups, width, size, values.device)
    of_chosen = chosen.add(chosen // groups, alpha=size - groups)  # the place of a group's first column, less `first`
    return torch.cat([(of_chosen[:, None] + members).flatten(1), others.expand(sentences, -1)], dim=1)


@lru_cache(maxsize=64)
def _columns(first: int, groups: int, width: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How far the members of a group stand from its number, (GROUP, 1), and the places in no group, (1, E)."""
    every = torch.arange(size, device=device)
    end = first + GROUP * groups
    others = torch.cat([every[:first], every[end:]])
    rows = torch.arange(width, device=device)[:, None] * size
    return every[first:end:groups, None], (rows + others).view(1, -1)


def log_normalisers(logits: Tensor) -> Tensor:
    """`logsumexp` of each row of (N, V), (N,), in blocks by the fused kernel of log_softmax: a third faster."""
    blocks = logits.chunk(math.ceil(logits.numel() / BLOCK))
    found = [block.amax(1) - block.log_softmax(1).amax(1) for block in blocks]
    return found[0] if len(found) == 1 else torch.cat(found)
