"""R-Drop: two readings of a batch under different dropout, drawn towards each other (Liang et al., 2021).

The loss of a token is half of the paper's equation 4, so that weight 0 is the plain loss of the two readings' mean:

    (1/2) (CE(p) + CE(q)) + (weight / 2) * (1/2) (KL(p | q) + KL(q | p))

Only a chunk's logits exist at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.kernels.agreement import agreement_sums
from seqkit.kernels.chunked_cross_entropy import rows_at_a_time
from seqkit.loss.cross_entropy import real_rows
from seqkit.loss.tally import Tally
from seqkit.state import Output

__all__ = ["agreeing_cross_entropy"]


def agreeing_cross_entropy(
    hidden: Tensor,
    output: Output,
    targets: Padded,
    *,
    weight: float,
    smoothing: float = 0.0,
    chunk: int | None = None,
    products: torch.dtype | None = None,
) -> Tally:
    """The mean cross-entropy of two readings and `weight` times half of what they differ by, over real positions.

    hidden (2B, T, D), the second reading of row b in row B + b; targets (B, T). Smoothing, `chunk` and `products` are
    those of `cross_entropy`. The tally counts each target once.
    """
    rows, wanted = real_rows(torch.stack(hidden.chunk(2), dim=2), targets)
    rows = rows.movedim(1, 0)  # (R, 2, D) -> (2, R, D)
    objective, nll = agreement_sums(
        rows,
        output.weight,
        output.bias,
        wanted,
        pull=weight,
        smoothing=smoothing,
        chunk=chunk or max(1, rows_at_a_time(output.weight) // 2),
        products=products,
    )
    return Tally(objective, nll, targets.mask.sum())
