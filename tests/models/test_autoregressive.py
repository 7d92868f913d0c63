"""What a model that predicts token by token gets from its base: logits and log-probabilities out of its features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers.embedding import OutputLayer
from seqkit.models.autoregressive import Autoregressive
from seqkit.state import Features, Memory, State

VOCABULARY, WIDTH = 7, 4
IDS, TARGETS = torch.tensor([[1, 5, 6], [1, 3, 3]]), torch.tensor([[5, 6, 2], [3, 3, 4]])


class Counter(Autoregressive):
    """Its features are one-hot vectors of each token's number plus that of tokens read before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.output = OutputLayer(vocabulary=VOCABULARY, width=WIDTH)

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return None, torch.zeros(2, dtype=torch.long)

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        places = state[:, None] + torch.arange(tokens.shape[1])
        hidden = torch.nn.functional.one_hot((tokens + places) % WIDTH, WIDTH).float()
        return Features(hidden, state + tokens.shape[1])


def test_logits_are_the_output_layer_of_the_features_and_the_state_goes_on() -> None:
    model = Counter()
    logits, state = model.advance(IDS, *model.start(None))
    assert torch.equal(logits, model.output(model.features(IDS, *model.start(None)).hidden))
    assert state.tolist() == [3, 3]
    halves = [model.advance(IDS[:, :2], *model.start(None))]
    halves.append(model.advance(IDS[:, 2:], None, halves[0].state))
    assert torch.equal(torch.cat([half.logits for half in halves], dim=1), logits)


def test_log_probabilities_are_those_of_the_logits() -> None:
    model = Counter()
    values, state = model.log_probs(IDS, TARGETS, *model.start(None))
    logits = model.advance(IDS, *model.start(None)).logits
    torch.testing.assert_close(values, logits.log_softmax(2).gather(2, TARGETS[:, :, None])[:, :, 0])
    assert state.tolist() == [3, 3]


def test_unless_it_says_otherwise_a_model_has_neither_a_source_nor_self_attention_alone() -> None:
    model = Counter()
    assert model.self_attention is None
    with pytest.raises(NotImplementedError):
        model.encode(Padded(IDS, IDS > 0))
