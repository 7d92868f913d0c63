"""Language models: what they share, what they remember, and what their regularisers cost."""

from __future__ import annotations

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from seqkit.batch import Batch, Padded, pad
from seqkit.errors import ModelError
from seqkit.layers.attention import KeyValues
from seqkit.layers.recurrent import StackState
from seqkit.models.build import build_language_model
from seqkit.models.language_model import LanguageModel, RecurrentReader
from seqkit.settings import RecurrentLanguageModel, TransformerLanguageModel
from seqkit.training.objective import Objective

VOCABULARY = 11
TOKENS = torch.tensor([[1, 4, 5, 6], [1, 7, 7, 3]])
SMALL = RecurrentLanguageModel(width=6, embedding=5, layers=2)
BOTH = (SMALL, TransformerLanguageModel(width=8, heads=2, layers=2))


def recurrent(settings: RecurrentLanguageModel = SMALL) -> LanguageModel:
    torch.manual_seed(0)
    return build_language_model(settings, VOCABULARY).double()


@pytest.mark.parametrize("settings", BOTH)
def test_a_source_is_refused(settings: RecurrentLanguageModel | TransformerLanguageModel) -> None:
    model = build_language_model(settings, VOCABULARY)
    with pytest.raises(ModelError, match="no source") as caught:
        model.start(pad([[4, 2]]))
    assert caught.value.hint
    assert model.start(None) == (None, None)


def test_states_have_a_row_a_sequence() -> None:
    state = recurrent().advance(TOKENS, None, None).state
    assert isinstance(state, StackState)
    assert state.cell is not None
    assert state.hidden.shape == state.cell.shape == (2, 2, 6)
    state = build_language_model(BOTH[1], VOCABULARY).advance(TOKENS, None, None).state
    assert [type(layer) for layer in state] == [KeyValues, KeyValues]
    assert [(layer.keys.shape, layer.length) for layer in state] == [((2, 2, 4, 4), 4)] * 2


@pytest.mark.parametrize("embedding", [5, 6])
def test_a_tied_output_layer_reads_vectors_of_the_embeddings_size(embedding: int) -> None:
    """A state that is wider or narrower than a token vector is projected first, and only then."""
    tied, free = (
        build_language_model(RecurrentLanguageModel(width=6, embedding=embedding, tied=tied), VOCABULARY)
        for tied in ("output", "none")
    )
    for model in (tied, free):
        assert isinstance(model.reader, RecurrentReader)
        size = embedding if model is tied else 6
        assert isinstance(model.reader.readout, nn.Identity) == (size == 6)
        assert model.features(TOKENS, None, None).hidden.shape == (2, 4, size)
        assert model.output.weight.shape == (VOCABULARY, size)
        assert (model.output.weight is model.reader.embedding.weight) == (model is tied)


@pytest.mark.parametrize(("size", "change"), [(2.0, 0.0), (0.0, 3.0), (0.5, 0.25)])
def test_penalties_are_mean_squares_of_outputs_and_of_their_changes(size: float, change: float) -> None:
    """Merity et al., 2017, equations 3 and 4: the first of what is dropped out, the second of what is not."""
    model = recurrent(replace(SMALL, activation_penalty=size, slowness_penalty=change, dropout=0.5))
    reader = model.reader
    assert isinstance(reader, RecurrentReader)
    found = model.train().features(TOKENS, None, None)
    raw, _ = reader.stack(reader.embedding(TOKENS))
    expected = size * found.hidden.square().mean(2)
    for step in range(1, 4):
        expected[:, step] += change * (raw[:, step] - raw[:, step - 1]).square().mean(1)
    torch.testing.assert_close(found.penalty, expected)
    assert model.eval().features(TOKENS, None, None).penalty is None


def test_penalties_are_part_of_what_is_minimised_and_not_of_the_loss() -> None:
    model = recurrent(replace(SMALL, activation_penalty=2.0, slowness_penalty=1.0))
    objective = Objective(model, smoothing=0.0)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    batch = Batch(None, TOKENS, Padded(TOKENS.roll(-1, 1), mask))
    training, _ = objective.train()(batch)
    penalty = model.features(TOKENS, None, None).penalty
    assert penalty is not None
    torch.testing.assert_close(training.objective, training.nll + penalty[mask].sum())
    evaluating, _ = objective.eval()(batch)
    torch.testing.assert_close(evaluating.objective, training.nll)
    torch.testing.assert_close(evaluating.nll, training.nll)


def test_without_penalties_nothing_is_added() -> None:
    assert recurrent().train().features(TOKENS, None, None).penalty is None
