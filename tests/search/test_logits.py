"""The fast ways to the largest logits and to their normalisers find what the plain ways find."""

from __future__ import annotations

import math

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqkit.search.logits import BLOCK, grouped_topk, log_normalisers, topk_superset

quick = settings(max_examples=20, deadline=None)


@quick
@given(rows=st.integers(1, 7), size=st.integers(1, 300), count=st.integers(1, 12), seed=st.integers(0, 1000))
def test_grouped_topk_is_topk(rows: int, size: int, count: int, seed: int) -> None:
    values = torch.randn(rows, size + 3, generator=torch.Generator().manual_seed(seed))[:, 3:]
    count = min(count, size)
    best, columns = grouped_topk(values, count)
    assert torch.equal(best, values.topk(count).values)
    assert torch.equal(values.gather(1, columns), best)


@given(
    sentences=st.integers(1, 3),
    width=st.integers(1, 4),
    size=st.sampled_from([4, 9, 60, 203, 8 * 60 + 3, 4100]),
    count=st.integers(1, 10),
    seed=st.integers(0, 99),
)
@example(sentences=3, width=4, size=4100, count=10, seed=0)  # above DIRECT_TOPK_LIMIT
@example(sentences=70, width=1, size=4100, count=2, seed=1)
def test_the_best_continuations_of_a_sentence_are_in_the_superset(
    sentences: int, width: int, size: int, count: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sentences * width, size, generator=generator)
    offsets = 3 * torch.randn(sentences, width, generator=generator)
    if width > 1:  # a dead row may hold anything
        offsets[:, -1] = -math.inf
        values[width - 1 :: width] = math.nan if seed % 2 else 1e9
    first = 3
    places = topk_superset(values, offsets, count, first=first)
    for row, offered in enumerate(places.tolist()):
        assert len(set(offered)) == len(offered)
        assert set(offered) <= set(range(width * size))
        # What is always offered: the special tokens of every row, and the columns that fill no group.
        assert {hypothesis * size + token for hypothesis in range(width) for token in range(first)} <= set(offered)
        sums = (values.view(sentences, width, size)[row] + offsets[row, :, None]).flatten()
        sums[sums.isnan()] = -math.inf
        best = sums.topk(min(count, int((sums > -math.inf).sum()))).indices.tolist()
        assert set(best) <= set(offered)


def test_normalisers_are_those_of_logsumexp_in_any_number_of_blocks() -> None:
    for shape in [(1, 3), (5, BLOCK // 2), (3, BLOCK + 1)]:
        logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 5
        assert torch.allclose(log_normalisers(logits), logits.logsumexp(1), atol=1e-4)
