"""Encodings of the position of a token: sinusoidal, learned, rotary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LearnedPositions", "SinusoidalPositions", "rotate", "sinusoids"]


def sinusoids(count: int, width: int, *, start: int = 0) -> Tensor:
    """Sine and cosine waves of geometrically growing length, (count, width) (Vaswani et al., 2017, section 3.5)."""
    positions = torch.arange(start, start + count, dtype=torch.float64)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
    waves = torch.zeros(count, width, dtype=torch.float64)
    waves[:, 0::2] = torch.sin(positions * rates)
    waves[:, 1::2] = torch.cos(positions * rates[: width // 2])
    return waves


class SinusoidalPositions(nn.Module):
    """Adds sinusoids to token vectors, for sequences of any length (Vaswani et al., 2017, section 3.5)."""

    table: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("table", sinusoids(512, width).float(), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(N, T, D) whose first token is at position `start` -> (N, T, D)."""
        end = start + x.shape[1]
        if end > len(self.table):  # beyond the table: computed at each call, which changes nothing in the module
            return x + sinusoids(x.shape[1], self.width, start=start).to(x)
        return x + self.table[start:end].to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds a trained vector for each position; positions beyond the last have the vector of the last."""

    def __init__(self, width: int, *, maximum: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(maximum, width) * width**-0.5)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(N, T, D) whose first token is at position `start` -> (N, T, D)."""
        positions = torch.arange(start, start + x.shape[1], device=x.device).clamp(max=len(self.weight) - 1)
        return x + self.weight[positions]


def rotate(x: Tensor, start: int = 0) -> Tensor:
    """Turn pairs of a query's or key's channels by angles proportional to its position (Su et al., 2021, equation 34).

    x (N, H, T, D/H) -> the same shape; the first token is at position `start`.
    """
    half = x.shape[-1] // 2
    positions = torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float32)
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = positions[:, None] * rates  # (T, D/2H)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine, rest], dim=-1)
