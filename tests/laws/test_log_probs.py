"""Looking up given tokens is what `advance` gives to them: one model, two ways to ask it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.layers import embedding
from seqkit.settings import Model
from seqkit.state import map_state, tensors_of
from tests.support.models import AnyModel, close, every_decodable, logits, make, sources, tokens

LENGTH = 6


def looked_up(model: AnyModel, ids: Tensor, targets: Tensor, *cuts: int) -> Tensor:
    """The log-probabilities of targets (N, T), read in pieces that end before the `cuts`."""
    memory, state = model.start(sources(5, 2, 3))
    pieces = []
    for inputs, wanted in zip(ids.tensor_split(cuts, dim=1), targets.tensor_split(cuts, dim=1), strict=True):
        found, state = model.log_probs(inputs, wanted, memory, map_state(Tensor.clone, state))
        pieces.append(found)
    return torch.cat(pieces, dim=1)


@every_decodable
def test_given_tokens_have_the_probabilities_that_advance_gives_them(settings: Model) -> None:
    model, ids, targets = make(settings), tokens(3, LENGTH), tokens(3, LENGTH, seed=5)
    targets[:, 0] = 2  # `</s>` is a token like any other here
    with torch.no_grad():
        expected = logits(model, sources(5, 2, 3), ids).log_softmax(2).gather(2, targets[:, :, None])[:, :, 0]
        for cuts in ((), (1,), (4,), range(1, LENGTH)):
            close(looked_up(model, ids, targets, *cuts), expected)


@every_decodable
def test_both_ways_leave_the_same_state(settings: Model) -> None:
    model, ids = make(settings), tokens(3, LENGTH)
    with torch.no_grad():
        one, other = (model.start(sources(5, 2, 3)) for _ in range(2))
        looked, read = model.log_probs(ids, ids, *one), model.advance(ids, *other)
    assert tensors_of(read.state)
    close(tensors_of(looked.state), tensors_of(read.state))


@pytest.mark.parametrize("chunk", [1, 7, 18, 1000])
def test_chunks_change_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    output = embedding.OutputLayer(vocabulary=9, width=4).double()
    hidden, targets = torch.randn(3, LENGTH, 4, dtype=torch.float64), tokens(3, LENGTH)
    expected = output(hidden).log_softmax(2).gather(2, targets[:, :, None])[:, :, 0]
    monkeypatch.setitem(embedding.CHUNKS, "cpu", chunk)
    close(output.log_probs(hidden, targets), expected)
