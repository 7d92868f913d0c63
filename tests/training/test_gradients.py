"""All gradients in one vector: autograd writes into views of it, and clipping is one norm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from seqkit.loss import Tally
from seqkit.parallel.processes import Processes
from seqkit.training.gradients import TAIL, Gradients


def module() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].bias.requires_grad_(False)
    return net


def trained(net: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def test_backward_writes_into_the_vector() -> None:
    net, reference = module(), module()
    gradients = Gradients(net.parameters())
    x = torch.randn(5, 3)
    for _ in range(2):  # and adds
        net(x).sum().backward()
    expected = torch.autograd.grad(2 * reference(x).sum(), trained(reference))
    torch.testing.assert_close(gradients.vector[:-TAIL], torch.cat([part.flatten() for part in expected]))
    for parameter, part in zip(trained(net), expected, strict=True):
        torch.testing.assert_close(parameter.grad, part)


def test_clearing_the_vector_clears_every_gradient() -> None:
    net = module()
    gradients = Gradients(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    gradients.clear()
    for parameter in trained(net):
        assert parameter.grad is not None
        assert not parameter.grad.any()


@pytest.mark.parametrize(("maximum", "scale"), [(None, 1.0), (100.0, 1.0), (2.5, 0.5)])
def test_clipping_scales_to_the_norm_and_tells_the_one_before(maximum: float | None, scale: float) -> None:
    gradients = Gradients([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1))])
    gradients.vector[:3] = torch.tensor([3.0, 0.0, 4.0])
    assert gradients.clip(maximum) == pytest.approx(5.0)
    torch.testing.assert_close(gradients.vector[:3], torch.tensor([3.0, 0.0, 4.0]) * scale)


def test_the_tail_is_no_part_of_the_norm() -> None:
    gradients = Gradients([nn.Parameter(torch.zeros(2))])
    gradients.vector[2:] = 100.0
    assert gradients.clip(1.0) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows_in_the_norm(bad: float) -> None:
    gradients = Gradients([nn.Parameter(torch.zeros(2))])
    gradients.vector[1] = bad
    assert not math.isfinite(gradients.clip(1.0))


@pytest.mark.parametrize("stop", [True, False])
def test_one_process_sums_to_itself(stop: bool) -> None:
    gradients = Gradients([nn.Parameter(torch.zeros(2))])
    tally = Tally(*torch.tensor([3.0, 2.0, 1.0]))
    assert gradients.sum(Processes(), tally, stop=stop) == (tally, stop)
