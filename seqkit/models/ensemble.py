"""Several models that share their tokens, as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.state import Decodable, Memory, State, Step

__all__ = ["Ensemble"]


class Ensemble:
    """The mean of what the members think, each by its weight; any mix of model kinds.

    Probabilities are averaged, not their logarithms: a member that knows better is not outvoted by one that is sure
    of nothing. State and memory are tuples of the members'.
    """

    def __init__(self, members: Sequence[Decodable], *, weights: Sequence[float] | None = None) -> None:
        """`weights` (default: equal) need not sum to 1. Raises ValueError unless there is one for each member."""
        weights = [1.0] * len(members) if weights is None else weights
        if len(weights) != len(members) or not members:
            raise ValueError(f"{len(members)} members, {len(weights)} weights")
        self.members = members
        shares = torch.tensor(weights, dtype=torch.float64)
        self.log_weights: list[float] = (shares / shares.sum()).log().tolist()

    def of(self, members: Sequence[Decodable]) -> Ensemble:
        """Others in the places and with the weights of the members."""
        return Ensemble(members, weights=[math.exp(weight) for weight in self.log_weights])

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Each member's memory and state."""
        begun = [member.start(source) for member in self.members]
        return tuple(memory for memory, _ in begun), tuple(state for _, state in begun)

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> log-probabilities (N, T, V), at least in float32."""
        steps = [member.advance(tokens, *own) for member, *own in zip(self.members, memory, state, strict=True)]
        parts = []
        for step, share in zip(steps, self.log_weights, strict=True):
            wide = step.logits.to(torch.promote_types(step.logits.dtype, torch.float32))
            parts.append(wide.log_softmax(-1) + share)
        return Step(torch.stack(parts).logsumexp(0), tuple(step.state for step in steps))
