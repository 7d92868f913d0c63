"""All gradients of a model in one vector, so that clearing, summing over processes and clipping are one call each."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from seqkit.loss import Tally
from seqkit.parallel.processes import Processes

__all__ = ["Gradients"]

TAIL = 4  # objective, nll, tokens, processes that want to stop


class Gradients:
    """Each parameter's `grad` is a view into one vector; the numbers a step reports travel at its end."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        first = parameters[0]
        size = sum(parameter.numel() for parameter in parameters)
        self.vector = torch.zeros(size + TAIL, device=first.device, dtype=first.dtype)
        place = 0
        for parameter in parameters:
            parameter.grad = self.vector[place : place + parameter.numel()].view_as(parameter)
            place += parameter.numel()

    def clear(self) -> None:
        """Set all gradients to zero."""
        self.vector.zero_()

    def sum(self, processes: Processes, tally: Tally, *, stop: bool) -> tuple[Tally, bool]:
        """Sum gradients and tallies over all processes; also whether any of them wants to stop."""
        stops_here = torch.as_tensor(float(stop), device=self.vector.device)
        tail = torch.stack(
            [part.to(self.vector.dtype) for part in (tally.objective, tally.nll, tally.tokens, stops_here)]
        )
        if processes.world == 1:
            return tally, stop
        self.vector[-TAIL:] = tail
        processes.sum(self.vector)
        objective, nll, tokens, stops = self.vector[-TAIL:].clone()
        return Tally(objective, nll, tokens), bool(stops > 0)

    def clip(self, maximum: float | None) -> float:
        """Scale the gradients down to the norm `maximum`; their norm before."""
        vector = self.vector[:-TAIL]
        norm = float(vector.norm())
        if maximum is not None and norm > maximum:
            vector.mul_(maximum / norm)
        return norm
