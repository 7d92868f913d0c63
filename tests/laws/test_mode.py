"""Law 4: the mode of a module changes dropout and nothing else."""

from __future__ import annotations

import msgspec
import pytest
import torch

from seqkit.batch import Batch, Padded
from seqkit.settings import Model
from seqkit.state import map_state
from seqkit.training.objective import Objective
from tests.support.models import MODELS, AnyModel, close, every_model, logits, make, sources, tokens


def check(model: AnyModel) -> None:
    source, ids = sources(5, 2), tokens(2, 5)
    torch.manual_seed(0)
    training = logits(model.train(), source, ids, 2)
    evaluating = logits(model.eval(), source, ids, 2)
    assert torch.equal(training, evaluating)


@every_model
def test_without_dropout_both_modes_agree(settings: Model) -> None:
    check(make(settings))


@every_model
def test_the_law_notices_dropout(settings: Model) -> None:
    with pytest.raises(AssertionError):
        check(make(msgspec.structs.replace(settings, dropout=0.5)))


@every_model
def test_evaluation_draws_no_random_numbers(settings: Model) -> None:
    model = make(msgspec.structs.replace(settings, dropout=0.5))
    before = torch.get_rng_state()
    with torch.no_grad():
        logits(model, sources(5, 2), tokens(2, 5))
    assert torch.equal(torch.get_rng_state(), before)


REGULARISERS = ("dropout", "input_dropout", "hidden_dropout", "embedding_dropout", "weight_drop")


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("name", REGULARISERS)
def test_each_regulariser_of_a_language_model_acts_in_training_alone(name: str, locked: bool) -> None:
    settings = msgspec.structs.replace(MODELS["language-lstm-regularised"], locked=locked, **{name: 0.5})
    with pytest.raises(AssertionError):
        check(make(settings))
    plain, regularised = make(MODELS["language-lstm-regularised"]), make(settings)
    before = torch.get_rng_state()
    with torch.no_grad():
        both = [logits(model, sources(5, 2), tokens(2, 5)) for model in (plain, regularised)]
    assert torch.equal(*both)
    assert torch.equal(torch.get_rng_state(), before)


@every_model
def test_gradients_enabled_or_not_the_numbers_are_the_same(settings: Model) -> None:
    objective = Objective(make(settings), smoothing=0.1)
    inputs = tokens(2, 5)
    batch = Batch(sources(5, 2), inputs, Padded(inputs.roll(-1, 1), torch.ones(2, 5) > 0))
    with_gradients, _ = objective(batch)
    with torch.no_grad():
        without, _ = objective(batch)
    close((with_gradients.objective, with_gradients.nll), (without.objective, without.nll))


@every_model
def test_no_call_changes_the_module(settings: Model) -> None:
    model = make(settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        memory, state = model.start(sources(5, 2))
        held = map_state(torch.Tensor.clone, memory)
        model.advance(tokens(2, 40), memory, state)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(flat(memory), flat(held), rtol=0, atol=0)


def flat(state: object) -> list[torch.Tensor]:
    """The tensors of a state, in order."""
    found: list[torch.Tensor] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    map_state(note, state)
    return found
