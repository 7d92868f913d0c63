"""Optimizers: each moves every parameter downhill, and Muon takes the hidden matrices alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.runs.network import hidden_matrices
from seqkit.settings import (
    SGD,
    Adam,
    AdamW,
    AveragedSGD,
    Muon,
    Optimizer,
    RMSprop,
)
from seqkit.training.muon import Muon as MuonOptimizer
from seqkit.training.objective import Objective
from seqkit.training.optimizers import build_optimizers, set_rates
from tests.support.training import toy_group, toy_model

EVERY: list[Optimizer] = [AdamW(), Adam(), SGD(momentum=0.9), RMSprop(momentum=0.5), Muon(), AveragedSGD()]
every_optimizer = pytest.mark.parametrize("settings", EVERY, ids=lambda settings: type(settings).__name__)


def built(
    settings: Optimizer, objective: Objective, *, rate: float = 1e-3, fused: bool = True
) -> tuple[list[torch.optim.Optimizer], set[str]]:
    parameters = dict(objective.model.named_parameters())
    matrices = hidden_matrices(objective.model)
    return build_optimizers(settings, parameters, rate=rate, matrices=matrices, fused=fused), matrices


@every_optimizer
def test_every_parameter_is_stepped_once(settings: Optimizer) -> None:
    objective = Objective(toy_model(), smoothing=0.1)
    optimizers, _ = built(settings, objective)
    owned = [id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]]
    assert sorted(owned) == sorted(id(parameter) for parameter in objective.parameters())
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    objective(toy_group(0).batches[0])[0].objective.backward()
    for optimizer in optimizers:
        optimizer.step()
    for name, parameter in objective.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@every_optimizer
def test_thirty_steps_lower_the_loss(settings: Optimizer) -> None:
    objective = Objective(toy_model(), smoothing=0.0)
    rates: dict[type[Optimizer], float] = {SGD: 0.1, AveragedSGD: 1.0}
    rate = rates.get(type(settings), 0.01)
    optimizers, _ = built(settings, objective, rate=rate)
    batch = toy_group(0).batches[0]
    losses = []
    for _ in range(30):
        objective.zero_grad()
        tally, _ = objective(batch)
        (tally.objective / tally.tokens).backward()
        losses.append(tally.loss)
        for optimizer in optimizers:
            optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_muon_takes_hidden_matrices_and_adamw_the_rest() -> None:
    objective = Objective(toy_model(), smoothing=0.0)
    (muon, adamw), matrices = built(Muon(rate=0.5), objective, rate=0.25)
    assert isinstance(muon, MuonOptimizer)
    assert isinstance(adamw, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in objective.model.named_parameters()}
    assert {names[id(each)] for each in muon.param_groups[0]["params"]} == matrices
    assert (muon.param_groups[0]["base"], adamw.param_groups[0]["base"]) == (0.5, 0.25)


def test_rates_are_scaled_from_their_bases_however_often() -> None:
    optimizers, _ = built(Muon(rate=0.5), Objective(toy_model(), smoothing=0.0), rate=0.25)
    for factor in (0.5, 0.0, 0.1):
        set_rates(optimizers, factor)
        rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
        assert rates == pytest.approx([0.5 * factor, 0.25 * factor])


@every_optimizer
def test_a_rate_of_zero_moves_nothing(settings: Optimizer) -> None:
    objective = Objective(toy_model(), smoothing=0.0)
    optimizers, _ = built(settings, objective)
    before = torch.cat([parameter.detach().flatten() for parameter in objective.parameters()])
    set_rates(optimizers, 0.0)
    objective(toy_group(0).batches[0])[0].objective.backward()
    for optimizer in optimizers:
        optimizer.step()
    assert torch.equal(torch.cat([parameter.detach().flatten() for parameter in objective.parameters()]), before)


def test_settings_reach_torch() -> None:
    objective = Objective(toy_model(), smoothing=0.0)
    ((adamw,), _), ((sgd,), _), ((rmsprop,), _) = (
        built(settings, objective)
        for settings in (
            AdamW(betas=(0.5, 0.6), weight_decay=0.7),
            SGD(momentum=0.3, weight_decay=0.4),
            RMSprop(smoothing=0.8, momentum=0.2),
        )
    )
    assert (adamw.defaults["betas"], adamw.defaults["weight_decay"]) == ((0.5, 0.6), 0.7)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.3, 0.4)
    assert (rmsprop.defaults["alpha"], rmsprop.defaults["momentum"]) == (0.8, 0.2)


def moved(settings: Optimizer, *, fused: bool) -> tuple[Tensor, list[str]]:
    """The weights after three steps, and the operations by which the last one was made."""
    objective = Objective(toy_model(), smoothing=0.1)
    optimizers, _ = built(settings, objective, rate=0.01, fused=fused)
    for seed in range(3):
        objective.zero_grad()
        objective(toy_group(seed).batches[0])[0].objective.backward()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for optimizer in optimizers:
                optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in objective.parameters()]), [
        event.key for event in profile.key_averages()
    ]


@pytest.mark.parametrize("settings", [AdamW(), Adam(), SGD(momentum=0.9)], ids=lambda settings: type(settings).__name__)
def test_without_fused_kernels_the_same_steps_are_made_one_tensor_after_the_other(settings: Optimizer) -> None:
    (fused, kernels), (loop, operations) = (moved(settings, fused=fused) for fused in (True, False))
    torch.testing.assert_close(loop, fused, rtol=1e-4, atol=1e-6)
    assert [name for name in kernels if "_fused_" in name]
    assert not [name for name in operations if "_fused_" in name]
