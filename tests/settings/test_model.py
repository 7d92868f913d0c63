"""What each kind of model claims to do, which others ask for instead of its name, is what its network does."""

from __future__ import annotations

import pytest
import torch

from seqkit.layers.positions import LearnedPositions
from seqkit.layers.stack import LayerStack
from seqkit.models.build import Sizes, build
from seqkit.settings import (
    Mixed,
    Model,
    NGram,
    Plain,
    Recurrent,
    RecurrentLabeller,
    RecurrentLanguageModel,
    Transformer,
    TransformerLabeller,
    TransformerLanguageModel,
)
from seqkit.settings.model import Cell
from seqkit.state import tensors_of
from tests.support.models import MODELS, counted, every_model, make, sources, tokens

SIZES = Sizes(9, 9, joint=True)
LABELLERS = (
    RecurrentLabeller(width=4, embedding=4),
    TransformerLabeller(width=4, heads=1, feed_forward=4, layers=1),
    TransformerLabeller(width=4, heads=1, feed_forward=4, layers=1, positions="learned", maximum_positions=7),
)
every_kind = pytest.mark.parametrize(
    "settings", [*MODELS.values(), *LABELLERS], ids=[*MODELS, "labeller-rnn", "labeller", "labeller-learned"]
)
SELF_ATTENTION = (Transformer, TransformerLanguageModel, TransformerLabeller)


@every_kind
def test_a_model_is_recomputable_if_layers_of_its_network_can_be_called_again(settings: Model) -> None:
    network = build(settings, SIZES, recompute=True)
    assert settings.recomputable == any(isinstance(part, LayerStack) and part.recompute for part in network.modules())


@every_kind
def test_a_model_reaches_as_far_as_its_network_has_positions(settings: Model) -> None:
    network = build(settings, SIZES)
    counts = {len(part.weight) for part in network.modules() if isinstance(part, LearnedPositions)}
    assert counts == (set() if settings.reach is None else {settings.reach})


@every_model
def test_only_models_that_carry_a_state_keep_it_in_a_fixed_size(settings: Model) -> None:
    """A translation's past ends with its sentence, and what self-attention has read grows."""
    if settings.purpose != "language":
        assert not settings.carries_state
        return
    model = make(settings)
    memory, state = model.start(sources(2, 1))
    short, long = (
        [tensor.shape for tensor in tensors_of(model.advance(tokens(2, length), memory, state).state)]
        for length in (3, 40)
    )
    assert settings.carries_state == (short == long)


def test_counted_models_have_nothing_to_train() -> None:
    model = counted(NGram(), seed=0, target=9, dtype=torch.float64)
    assert not NGram.trained
    assert not list(model.parameters())
    assert all(settings.trained and list(make(settings).parameters()) for settings in MODELS.values())


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm", "mingru"])
def test_recurrent_models_read_all_at_once_only_with_a_cell_that_needs_no_state(cell: Cell) -> None:
    parallel = cell == "mingru"
    assert Plain(cell=cell).parallel_in_time == parallel
    assert Recurrent(cell=cell).parallel_in_time == parallel
    assert RecurrentLanguageModel(cell=cell).parallel_in_time == parallel
    assert RecurrentLabeller(cell=cell).parallel_in_time == parallel
    assert not Recurrent(cell=cell, input_feeding=True).parallel_in_time


def test_self_attention_reads_all_at_once_and_is_worth_compiling() -> None:
    for kind in SELF_ATTENTION:
        assert kind().parallel_in_time
        assert kind.compilable
    others = (Plain, Recurrent, Mixed, RecurrentLanguageModel, RecurrentLabeller, NGram)
    assert not any(kind.compilable for kind in others)
    assert not Mixed().parallel_in_time
