"""A loss to be worked out: random hidden vectors, an output layer, and targets of which some do not count."""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers.embedding import OutputLayer

V, D = 7, 4


def problem(
    rows: int = 3, steps: int = 5, *, dtype: torch.dtype = torch.float64, real: float = 0.6, readings: int = 1
) -> tuple[Tensor, OutputLayer, Padded]:
    torch.manual_seed(0)
    output = OutputLayer(vocabulary=V, width=D)
    with torch.no_grad():
        output.bias.normal_()
    mask = torch.rand(rows, steps) < real
    hidden = torch.randn(readings * rows, steps, D, dtype=dtype, requires_grad=True)
    return hidden, output.to(dtype), Padded(torch.randint(0, V, (rows, steps)), mask)
