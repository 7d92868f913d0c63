"""The message that ends a run names what first was not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from seqkit.training.diagnosis import culprit


class Overflow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.inf


def network(*parts: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), *parts, nn.Linear(3, 1))


def loss_of(model: nn.Module, scale: float = 1.0) -> Tensor:
    found: Tensor = model(torch.ones(2, 3)).square().sum() * scale
    return found


def test_the_first_module_in_the_order_of_the_work_is_named() -> None:
    model = network(nn.Sequential(nn.Tanh(), Overflow()), nn.Linear(3, 3))
    assert culprit(model, lambda: loss_of(model)) == "the output of 1.1"


def test_weights_come_first() -> None:
    model = network(Overflow())
    with torch.no_grad():
        model.get_parameter("2.weight")[0, 1] = math.nan
    assert culprit(model, lambda: loss_of(model)) == "the weights 2.weight"


def test_a_loss_of_finite_outputs_is_named_too() -> None:
    model = network()
    assert culprit(model, lambda: loss_of(model, math.inf)) == "the loss"


class SteepRoot(nn.Module):
    """Its value is finite everywhere, its slope is not at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).abs().sqrt()


def test_a_gradient_is_named_by_its_weights() -> None:
    model = network(SteepRoot())
    assert culprit(model, lambda: loss_of(model)) == "the gradient of 0.weight"


@pytest.mark.parametrize("parts", [(), (nn.Tanh(),)])
def test_nothing_else_is_accused(parts: tuple[nn.Module, ...]) -> None:
    model = network(*parts)
    assert culprit(model, lambda: loss_of(model)) == "the norm of all gradients"
    assert not model[0]._forward_hooks
