"""From a recipe to its network, with fresh or trained weights, and to its optimizers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.errors import ModelError
from seqkit.models.build import Sizes, build
from seqkit.models.ngram import NGramModel
from seqkit.parallel.parameters import named_tensors
from seqkit.runs.network import build_model, hidden_matrices, load_model, recipe_optimizers
from seqkit.settings import (
    Mixed,
    Model,
    NGram,
    Pairs,
    Plain,
    Recipe,
    Recurrent,
    RecurrentLanguageModel,
    Stream,
    Train,
    Transformer,
    Words,
)
from seqkit.system.device import CPU
from seqkit.tasks import prepare
from seqkit.text.codec import Codec, Codecs
from seqkit.training.objective import build_objective
from tests.support.sessions import toy_recipe


@pytest.mark.parametrize("on", [True, False])
def test_the_recipe_decides_about_dropout_and_optimizers(corpus: Path, on: bool) -> None:
    settings = toy_recipe(corpus, cheap_dropout=on, fused_optimizer=on)
    model = build_model(settings, prepare(settings, corpus / "run").codecs)
    assert build_objective(settings, model, CPU).precision.byte_dropout == on
    assert {bool(optimizer.defaults["fused"]) for optimizer in recipe_optimizers(settings.train, model)} == {on}


@pytest.mark.parametrize(
    "settings",
    [
        Transformer(width=8, heads=2, feed_forward=8, encoder_layers=1, decoder_layers=1, positions="learned"),
        Recurrent(width=8, embedding=6, cell="lstm"),
        Plain(width=8, embedding=6),
        Mixed(width=8, heads=2, feed_forward=8, encoder_layers=1),
    ],
    ids=lambda settings: type(settings).__name__,
)
@pytest.mark.parametrize("tied", ["none", "output", "all"])
def test_hidden_matrices_are_neither_token_vectors_nor_places_nor_outputs(settings: Model, tied: str) -> None:
    model = build(msgspec.structs.replace(settings, tied=tied), Sizes(9, 9, joint=True))
    names = hidden_matrices(model)
    shapes = dict(model.named_parameters())
    assert names
    assert all(shapes[name].ndim == 2 for name in names)
    left = {name for name in shapes if name not in names and shapes[name].ndim == 2}
    assert {name.split(".")[-2] for name in left} <= {"embedding", "output", "positions"}
    assert not [name for name in names if "embedding" in name or name.startswith("output") or "positions" in name]


def codecs() -> Codecs:
    codec = Codec.learn(["a b c d e"], Words(split="spaces"))
    return Codecs(codec, codec)


@pytest.mark.parametrize("settings", [Transformer(width=8, heads=2), RecurrentLanguageModel(width=6, embedding=5)])
def test_fresh_weights_are_a_function_of_the_seed_alone(settings: Transformer | RecurrentLanguageModel) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.rand(3)  # whatever was drawn before
        recipe = Recipe(data=Pairs(train=("a",)), model=settings, train=Train(seed=seed))
        return build_model(recipe, codecs()).state_dict()

    torch.testing.assert_close(weights(1), weights(1), rtol=0, atol=0)
    assert not torch.equal(weights(1)["output.weight"], weights(2)["output.weight"])


def test_trained_weights_come_back_and_those_of_another_model_are_refused() -> None:
    recipe = Recipe(data=Pairs(train=("a",)), model=Transformer(width=8, heads=2, decoder_layers=2))
    tensors = {name: torch.randn_like(tensor) for name, tensor in named_tensors(build_model(recipe, codecs())).items()}
    torch.testing.assert_close(named_tensors(load_model(recipe, codecs(), tensors)), tensors, rtol=0, atol=0)
    for model, words in (
        (Transformer(width=16, heads=2, decoder_layers=2), "has shape"),
        (Transformer(width=8, heads=2, decoder_layers=3), "is missing"),
        (Transformer(width=8, heads=2, decoder_layers=10**9), "too few for model.decoder_layers"),
    ):
        with pytest.raises(ModelError, match=words):
            load_model(msgspec.structs.replace(recipe, model=model), codecs(), tensors)


def test_counts_come_back() -> None:
    settings = NGram(order=2)
    counted = NGramModel.fit(settings, [np.array([4, 5, 2], dtype=np.int32)], vocabulary=len(codecs().target))
    recipe = Recipe(data=Stream(train=("a",)), model=settings)
    found = load_model(recipe, codecs(), counted.tensors())
    assert isinstance(found, NGramModel)
    torch.testing.assert_close(found.tensors(), counted.tensors(), rtol=0, atol=0)
