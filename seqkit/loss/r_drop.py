"""R-Drop: two passes over a batch under different dropout, whose predictions shall agree (Liang et al., 2021).

The loss of a token is half of the paper's equation 4, so that with weight 0 it is the mean loss of the two passes:

    (1/2) (CE(p) + CE(q)) + (weight / 2) * (1/2) (KL(p | q) + KL(q | p))

Only the logits of one chunk exist at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.kernels.agreement import agreement_sums
from seqkit.kernels.chunked_cross_entropy import default_chunk
from seqkit.loss.cross_entropy import real_rows
from seqkit.loss.tally import Tally
from seqkit.state import Output

__all__ = ["r_drop_cross_entropy"]


def r_drop_cross_entropy(
    hidden: Tensor,
    output: Output,
    targets: Padded,
    *,
    weight: float,
    smoothing: float = 0.0,
    chunk: int | None = None,
    products: torch.dtype | None = None,
) -> Tally:
    """The mean cross-entropy of two passes plus `weight` / 2 times their mean divergence, over real positions.

    hidden (2B, T, D), the second pass over row b in row B + b; targets (B, T). Smoothing, `chunk` and `products` are
    those of `cross_entropy`. The tally counts each target once.
    """
    rows, labels = real_rows(torch.stack(hidden.chunk(2), dim=2), targets)
    rows = rows.movedim(1, 0)  # (R, 2, D) -> (2, R, D)
    objective, nll = agreement_sums(
        rows,
        output.weight,
        output.bias,
        labels,
        divergence_weight=weight,
        smoothing=smoothing,
        chunk=chunk or max(1, default_chunk(output.weight) // 2),
        products=products,
    )
    return Tally(objective, nll, targets.mask.sum())
