"""Ensembles: several models with one vocabulary that decode as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.state import Decodable, Memory, State, Step

__all__ = ["Ensemble"]


class Ensemble:
    """The weighted mean of the members' predictions; members may be models of any kinds.

    Probabilities are averaged, not their logarithms, so that no member alone can rule a token out. State and memory
    are tuples of the members'.
    """

    def __init__(self, members: Sequence[Decodable], *, weights: Sequence[float] | None = None) -> None:
        """`weights` (default: equal) need not sum to 1. Raises ValueError unless there is one for each member."""
        weights = [1.0] * len(members) if weights is None else weights
        if len(weights) != len(members) or not members:
            raise ValueError(f"{len(members)} members, {len(weights)} weights")
        self.members = members
        unnormalised = torch.tensor(weights, dtype=torch.float64)
        self.log_weights: list[float] = (unnormalised / unnormalised.sum()).log().tolist()

    def with_members(self, members: Sequence[Decodable]) -> Ensemble:
        """An ensemble of other members with the same weights."""
        return Ensemble(members, weights=[math.exp(weight) for weight in self.log_weights])

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Each member's memory and state."""
        starts = [member.start(source) for member in self.members]
        return tuple(memory for memory, _ in starts), tuple(state for _, state in starts)

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> log-probabilities (N, T, V), at least in float32."""
        steps = [member.advance(tokens, *inputs) for member, *inputs in zip(self.members, memory, state, strict=True)]
        weighted = []
        for step, log_weight in zip(steps, self.log_weights, strict=True):
            wide = step.logits.to(torch.promote_types(step.logits.dtype, torch.float32))
            weighted.append(wide.log_softmax(-1) + log_weight)
        return Step(torch.stack(weighted).logsumexp(0), tuple(step.state for step in steps))
