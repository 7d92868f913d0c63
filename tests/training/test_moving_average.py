"""The moving average: it forgets its start, keeps equal weights equal, and steps aside after validation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqkit.training.moving_average import Average
from tests.support.training import toy_model


def set_all(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_weights_that_stand_still_are_their_own_average() -> None:
    model = toy_model()
    average = Average(model, 0.99)
    for _ in range(5):
        average.update()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(average.tensors()[name], parameter.detach(), rtol=0, atol=1e-6)


def test_the_average_converges_to_where_the_weights_stay() -> None:
    model = nn.Linear(2, 1)
    average = Average(model, 0.9)
    set_all(model, 3.0)
    for _ in range(200):
        average.update()
    torch.testing.assert_close(average.tensors()["weight"], torch.full((1, 2), 3.0))


def test_it_is_the_recursive_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    set_all(model, 5.0)
    average, expected = Average(model, 0.5), 5.0
    for step, value in enumerate([1.0, -2.0, 4.0, 0.5, 7.0, 3.0, 2.0, 8.0, 9.0, 1.0], start=1):
        set_all(model, value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert float(average.tensors()["weight"]) == pytest.approx(expected)


def test_the_averages_stand_in_for_the_weights_and_step_aside() -> None:
    model = toy_model()
    average = Average(model, 0.9)
    set_all(model, 3.0)
    average.update()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with average.applied():
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, average.tensors()[name])
            assert not torch.equal(parameter, before[name])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_they_step_aside_after_an_error_too() -> None:
    model = nn.Linear(2, 1)
    average = Average(model, 0.9)
    set_all(model, 3.0)
    with pytest.raises(ZeroDivisionError), average.applied():
        _ = 1 / 0
    assert torch.equal(model.weight, torch.full((1, 2), 3.0))


def test_it_goes_on_from_what_was_saved() -> None:
    model = nn.Linear(2, 1)
    straight = Average(model, 0.9)
    set_all(model, 3.0)
    straight.update()
    resumed = Average(nn.Linear(2, 1), 0.9)
    resumed.restore({name: tensor.clone() for name, tensor in straight.tensors().items()}, straight.updates)
    resumed.current = straight.current
    set_all(model, -1.0)
    straight.update()
    resumed.update()
    for name, tensor in straight.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name])


def test_a_tied_weight_is_averaged_once() -> None:
    model = toy_model()
    assert model.output.weight is model.decoder.embedding.weight
    assert len(Average(model, 0.9).means) == len(list(model.parameters()))
