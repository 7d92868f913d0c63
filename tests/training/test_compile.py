"""Compiled layers are the same model: loss, gradients and the names of the weights."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.layers.dropout import Dropout
from seqkit.models.build import Sizes, build
from seqkit.models.language_model import LanguageModel
from seqkit.parallel.parameters import named_tensors
from seqkit.settings import (
    Model,
    Transformer,
    TransformerLanguageModel,
)
from seqkit.training.objective import MULTIPLE, Objective
from tests.support.training import toy_group

MODELS: dict[str, Model] = {
    "post": Transformer(
        width=8, heads=2, feed_forward=12, encoder_layers=1, decoder_layers=1, dropout=0.0, norm="post"
    ),
    "language-rotary": TransformerLanguageModel(
        width=8, heads=2, feed_forward=12, layers=1, dropout=0.0, positions="rotary", activation="swiglu"
    ),
}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's compiler up to where it would write code for the machine, which takes minutes under test."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def batches(model: object) -> list[Batch]:
    found = [batch for seed in (1, 2) for batch in toy_group(seed).batches]
    return [Batch(None, each.inputs, each.targets) if isinstance(model, LanguageModel) else each for each in found]


def slopes(objective: Objective, batch: Batch) -> tuple[Tensor, Tensor]:
    tally, _ = objective(batch)
    gradients = torch.autograd.grad(tally.objective, list(objective.parameters()))
    return tally.objective.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
@pytest.mark.filterwarnings("ignore")  # the compiler reads attributes that are not meant for use
@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_those_of_the_model(name: str) -> None:
    torch.manual_seed(1)
    model = build(MODELS[name], Sizes(8, 8, joint=True)).double()
    plain, compiled = Objective(model, smoothing=0.1), Objective(model, smoothing=0.1, compiled=True)
    for batch in batches(model):
        for one, other in zip(slopes(plain, batch), slopes(compiled, batch), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)
    assert named_tensors(compiled.model).keys() == named_tensors(plain.model).keys()
    assert not [name for name in compiled.state_dict() if "_orig_mod" in name]


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
@pytest.mark.filterwarnings("ignore")  # the compiler reads attributes that are not meant for use
def test_one_graph_serves_batches_of_any_shape() -> None:
    model = build(MODELS["post"], Sizes(8, 8, joint=True))
    compiled = Objective(model, smoothing=0.1, compiled=True)
    counter = torch._dynamo.utils.counters
    counter.clear()
    for rows, source, target in ((3, 5, 7), (4, 20, 9), (2, 12, 30), (5, 40, 17), (6, 3, 3)):
        left, right = (Encoded.from_lists([[5] * length] * rows) for length in (source, target))
        slopes(compiled, translation_batch(left, right, np.arange(rows)))
    assert not counter["graph_break"]
    assert counter["stats"]["unique_graphs"] <= 2  # the first shape may be taken for the only one


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
@pytest.mark.filterwarnings("ignore")
def test_compiled_dropout_drops() -> None:
    layer = torch._dynamo.optimize("aot_eager", dynamic=True)(Dropout(0.25))
    dropped = layer(torch.ones(200, 50, requires_grad=True))
    assert float((dropped == 0).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert float(dropped.detach().max()) == pytest.approx(4 / 3)


def test_padding_is_added_only_where_no_state_goes_on() -> None:
    batch = toy_group(1).batches[0]
    wide = batch.padded_to_multiple(MULTIPLE)
    assert wide.source is not None
    assert wide.inputs is not None
    assert batch.inputs is not None
    assert {wide.source.ids.shape[1] % MULTIPLE, wide.inputs.shape[1] % MULTIPLE} == {0}
    assert wide.targets.ids.shape == wide.targets.mask.shape == wide.inputs.shape
    assert torch.equal(wide.targets.ids[wide.targets.mask], batch.targets.ids[batch.targets.mask])
    alone = Batch(None, batch.inputs, batch.targets)
    assert alone.padded_to_multiple(MULTIPLE) is alone
