"""Additive attention scores, for all pairs of queries and keys at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["additive_scores"]


def additive_scores(queries: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
    """v tanh(q + k) for every query and key (Bahdanau et al., 2015): (B, Q, A), (B, S, A), (A,) -> (B, Q, S)."""
    scores: Tensor = AdditiveScores.apply(queries, keys, vector)  # type: ignore[no-untyped-call]
    return scores


class AdditiveScores(torch.autograd.Function):
    """The scores with a backward pass of their own.

    tanh(q + k) = 1 - 2 / (1 + exp(2 q) exp(2 k)): the exponentials are taken once a query and once a key, which leaves
    for each pair a product and a reciprocal, at half the cost of a hyperbolic tangent.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
        # Within the clamp no exponential overflows in float32. Beyond it the tangent is one, unless the two sides have
        # opposite signs: the score of such a pair is inexact.
        left, right = (side.clamp(-43, 43).mul_(2).exp_() for side in (queries, keys))
        pairs = (left[:, :, None] * right[:, None]).add_(1).reciprocal_()  # (B, Q, S, A)
        ctx.save_for_backward(pairs, vector)
        scores: Tensor = (pairs @ vector).mul_(-2).add_(vector.sum())
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pairs, vector = ctx.saved_tensors
        d_vector = gradient.sum() - 2 * (gradient.reshape(-1) @ pairs.view(-1, len(vector)))
        # d tanh(q + k) / d (q + k) = 4 p (1 - p) for p = 1 / (1 + exp(2 q) exp(2 k)); 4 v is multiplied in at the end.
        d_sums = torch.addcmul(pairs, pairs, pairs, value=-1).mul_(gradient[..., None])
        return d_sums.sum(2) * (4 * vector), d_sums.sum(1) * (4 * vector), d_vector
