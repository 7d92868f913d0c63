"""What a fresh model of any kind does: it knows nothing yet, and everything in it can learn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from seqkit.batch import Batch, Padded, pad
from seqkit.models.build import Sizes, build
from seqkit.settings import (
    Mixed,
    Model,
    Plain,
    Recurrent,
    RecurrentLanguageModel,
    Transformer,
    TransformerLanguageModel,
)
from seqkit.training.objective import Objective
from tests.support.models import every_model, make, sources, tokens

FRESH: dict[str, Model] = {
    "transformer-pre": Transformer(width=64, feed_forward=128, encoder_layers=2, decoder_layers=2),
    "transformer-post": Transformer(width=64, feed_forward=128, encoder_layers=2, decoder_layers=2, norm="post"),
    "recurrent": Recurrent(width=64, embedding=64),
    "recurrent-feeding": Recurrent(width=64, embedding=64, cell="lstm", input_feeding=True),
    "plain": Plain(width=64, embedding=64),
    "mixed": Mixed(width=64, feed_forward=128, encoder_layers=2),
    "language-rnn": RecurrentLanguageModel(width=64, embedding=64, cell="rnn", tied="none"),
    "language-gru": RecurrentLanguageModel(width=64, embedding=48, cell="gru"),
    "language-lstm": RecurrentLanguageModel(width=64, embedding=64, layers=2),
    "language-transformer-pre": TransformerLanguageModel(width=64, feed_forward=128, layers=2),
    "language-transformer-post": TransformerLanguageModel(width=64, feed_forward=128, layers=2, norm="post"),
    "language-transformer-untied": TransformerLanguageModel(width=64, feed_forward=128, layers=2, tied="none"),
}

# Transformers begin with scores of unit variance, half a nat above knowing nothing; and where one matrix serves both
# ends, a pre-norm residual stream still carries the token just read, whose score stands out. Both fade in ln V.
MARGIN = {
    ("transformer-pre", 50): 0.5,
    ("transformer-post", 50): 0.2,
    ("language-transformer-pre", 50): 0.5,
    ("language-transformer-post", 50): 0.2,
    ("language-transformer-untied", 50): 0.2,
}


def pairs(vocabulary: int) -> Batch:
    """Sixteen random pairs."""
    random = torch.Generator().manual_seed(0)
    source, target = torch.randint(3, vocabulary, (2, 16, 12), generator=random).tolist()
    return Batch(
        pad([[*row, 2] for row in source]), pad([[1, *row] for row in target]).ids, pad([[*row, 2] for row in target])
    )


@pytest.mark.parametrize("vocabulary", [50, 1000, 32000])
@pytest.mark.parametrize("kind", FRESH)
def test_the_first_loss_is_that_of_knowing_nothing(kind: str, vocabulary: int) -> None:
    torch.manual_seed(1)
    objective = Objective(build(FRESH[kind], Sizes(vocabulary, vocabulary, joint=True)), smoothing=0.0)
    batch = pairs(vocabulary)
    if kind.startswith("language"):
        batch = replace(batch, source=None)
    with torch.no_grad():
        tally, _ = objective.eval()(batch)
    assert tally.loss == pytest.approx(math.log(vocabulary), rel=MARGIN.get((kind, vocabulary), 0.1))


@every_model
def test_every_weight_learns_from_the_first_step(settings: Model) -> None:
    """No exceptions: nothing in a model is dead, not even for padding, which has no vector of its own."""
    objective = Objective(make(settings, noise=0.0, dtype=torch.float32), smoothing=0.1).train()
    inputs = tokens(3, 6)
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    objective(Batch(sources(5, 2, 4), inputs, Padded(inputs.roll(-1, 1), inputs > 0)))[0].objective.backward()
    optimizer.step()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name
        assert not torch.equal(parameter, before[name]), name
