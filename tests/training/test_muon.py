"""Muon: torch's own update, stacked; its directions are orthogonal; shares add up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqkit.parallel.processes import Processes
from seqkit.training.muon import Muon, orthogonalise

SHAPES = [(8, 8), (8, 8), (16, 8), (8, 16), (24, 8), (6, 6)]


def parameters(seed: int) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_makes_the_steps_of_torchs_own(decay: float) -> None:
    ours, theirs = parameters(1), parameters(1)
    own = Muon(ours, lr=0.02, momentum=0.9, iterations=5, weight_decay=decay)
    reference: torch.optim.Optimizer = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, ns_steps=5, weight_decay=decay)
    for step in range(4):
        torch.manual_seed(step)
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        own.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)  # stacked bfloat16 products may round otherwise


def test_directions_have_singular_values_near_one() -> None:
    torch.manual_seed(2)
    found = orthogonalise(torch.randn(3, 8, 32), iterations=5).float()
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.4


class Share(Processes):
    """One of several processes; what it would have sent to the others is noted."""

    def sum(self, tensor: Tensor) -> None:
        self.sent = tensor.clone()


def test_the_shares_of_several_processes_add_up_to_the_whole() -> None:
    torch.manual_seed(3)
    matrices = [torch.randn(shape) for shape in SHAPES]
    whole = Muon(parameters(1), lr=0.1)._directions(matrices, 5)
    sums = torch.zeros(sum(matrix.numel() for matrix in matrices))
    for rank in range(3):
        share = Share(rank, 3)
        Muon(parameters(1), lr=0.1, processes=share)._directions(matrices, 5)
        # Every entry comes from exactly one process.
        assert not (sums.bool() & share.sent.bool()).any()
        sums += share.sent
    torch.testing.assert_close(sums, torch.cat([part.flatten() for part in whole]), rtol=0, atol=2e-2)


def test_a_parameter_without_gradient_stays_as_it_is() -> None:
    ours = parameters(1)
    before = [parameter.detach().clone() for parameter in ours]
    optimizer = Muon(ours, lr=0.1)
    ours[0].grad = torch.randn_like(ours[0])
    optimizer.step()
    assert not torch.equal(ours[0], before[0])
    assert all(torch.equal(one, other) for one, other in zip(ours[1:], before[1:], strict=True))
