"""Cross-entropy over real positions, with label smoothing."""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.kernels.chunked_cross_entropy import cross_entropy_sums, default_chunk
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

    hidden (B, T, D); targets (B, T). The objective is -(1 - e) log p(y) - e mean log p, with the mean over the
    vocabulary (Szegedy et al., 2016, section 7). With gradients enabled, those of hidden, weight and bias are computed
    in the same sweep, `chunk` rows at a time (default: as suits the device). `products` is the arithmetic of the matrix
    products (default: the tensors' own); sums are always made in at least float32.
    """
    rows, labels = real_rows(hidden, targets)
    objective, nll = cross_entropy_sums(
        rows,
        output.weight,
        output.bias,
        labels,
        smoothing=smoothing,
        chunk=chunk or default_chunk(output.weight),
        products=products,
    )
    return Tally(objective, nll, targets.mask.sum())


def real_rows(hidden: Tensor, targets: Padded) -> tuple[Tensor, Tensor]:
    """The vectors and the labels at real positions: hidden (B, T, ...), targets (B, T) -> (R, ...), (R,)."""
    # Computed once: wherever the size of a result depends on values, the program waits for the GPU.
    positions = targets.mask.flatten().nonzero()[:, 0]
    return hidden.flatten(0, 1).index_select(0, positions), targets.ids.flatten().index_select(0, positions)
