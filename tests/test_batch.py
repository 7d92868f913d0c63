"""The two shapes in which ids travel."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from seqkit.batch import Batch, Padded, pad


@given(st.lists(st.lists(st.integers(0, 2**40), max_size=6), max_size=5))
def test_padding_can_be_taken_off_again(sequences: list[list[int]]) -> None:
    """Whatever the ids are: zero too may be a real token."""
    padded = pad(sequences)
    assert padded.ids.dtype == torch.int64
    assert padded.mask.dtype == torch.bool
    assert padded.ids.shape == padded.mask.shape == (len(sequences), max(map(len, sequences), default=0))
    assert [ids[mask].tolist() for ids, mask in zip(padded.ids, padded.mask, strict=True)] == sequences
    assert not padded.ids[~padded.mask].any()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_real_tokens_stand_on_the_left(lengths: list[int]) -> None:
    mask = pad([[7] * length for length in lengths]).mask
    assert mask.tolist() == [[place < length for place in range(max(lengths))] for length in lengths]


def test_a_batch_moves_as_a_whole() -> None:
    source = pad([[4, 2], [2]])
    batch = Batch(source, torch.tensor([[1, 5], [1, 0]]), pad([[5, 2], [2]]), continues=True)
    moved = batch.to("meta")
    assert isinstance(moved.source, Padded)
    assert moved.inputs is not None
    parts = [*moved.source, moved.inputs, *moved.targets]
    assert {part.device.type for part in parts} == {"meta"}
    assert moved.continues


def test_a_batch_may_lack_a_source_or_inputs() -> None:
    moved = Batch(None, None, pad([[2]])).to("cpu")
    assert moved.source is None
    assert moved.inputs is None
    assert torch.equal(moved.targets.ids, torch.tensor([[2]]))
