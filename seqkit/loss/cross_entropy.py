"""Masked cross-entropy with label smoothing."""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.kernels.chunked_cross_entropy import cross_entropy_sums, rows_at_a_time
from seqkit.loss.tally import Tally
from seqkit.state import Output

__all__ = ["cross_entropy", "real_rows"]


def cross_entropy(
    hidden: Tensor,
    output: Output,
    targets: Padded,
    *,
    smoothing: float = 0.0,
    chunk: int | None = None,
    products: torch.dtype | None = None,
) -> Tally:
    """Cross-entropy of the output layer's distribution with the targets, over real positions only.

    hidden (B, T, D); targets (B, T). The objective mixes the log-probability of the target with the mean over the
    vocabulary, (1 - e) log p(y) + e mean log p (Szegedy et al., 2016, section 7). With gradients enabled, those of
    hidden, weight and bias are computed in the same pass, `chunk` rows at a time (default: what suits the device).
    `products` is the arithmetic of the matrix products (default: the tensors' own); sums are always made in at least
    float32.
    """
    rows, wanted = real_rows(hidden, targets)
    objective, nll = cross_entropy_sums(
        rows,
        output.weight,
        output.bias,
        wanted,
        smoothing=smoothing,
        chunk=chunk or rows_at_a_time(output.weight),
        products=products,
    )
    return Tally(objective, nll, targets.mask.sum())


def real_rows(hidden: Tensor, targets: Padded) -> tuple[Tensor, Tensor]:
    """What is read at real positions, and what is wanted there: hidden (B, T, ...) -> (R, ...), (R,)."""
    # Looked for once: a GPU is waited for wherever the size of a result depends on numbers.
    places = targets.mask.flatten().nonzero()[:, 0]
    return hidden.flatten(0, 1).index_select(0, places), targets.ids.flatten().index_select(0, places)
