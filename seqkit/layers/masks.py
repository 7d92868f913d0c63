"""Masks; `True` means a real token, or a position that may be attended to."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["causal_mask", "length_mask"]


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Which positions of padded sequences are real: lengths (B,) -> (B, size)."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def causal_mask(new: int, total: int, device: torch.device) -> Tensor:
    """Which of `total` positions the last `new` ones may attend to, themselves included: (new, total)."""
    # Aligned at the bottom right: with a cache, the first new token already sees total - new earlier ones.
    return torch.ones(new, total, dtype=torch.bool, device=device).tril(total - new)
