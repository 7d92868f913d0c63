"""The two places where a mask is made: True is a real token, or one that may be attended to."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from seqkit.layers.masks import causal_mask, length_mask

CPU = torch.device("cpu")


@given(st.lists(st.integers(0, 6), max_size=5))
def test_a_length_mask_counts_to_each_length(lengths: list[int]) -> None:
    mask = length_mask(torch.tensor(lengths, dtype=torch.int64), 6)
    assert mask.tolist() == [[True] * length + [False] * (6 - length) for length in lengths]


@given(st.integers(1, 6), st.integers(0, 6))
def test_a_causal_mask_is_the_bottom_of_a_triangle(new: int, earlier: int) -> None:
    """Each new token sees everything before it, the first of them all of the past."""
    total = earlier + new
    mask = causal_mask(new, total, CPU)
    assert mask.tolist() == [[place <= earlier + row for place in range(total)] for row in range(new)]
    assert torch.equal(mask, causal_mask(total, total, CPU)[earlier:])
