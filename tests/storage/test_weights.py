"""Names are the same however a model is wrapped, ties stay ties, and optimizers come back bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from seqkit.errors import ModelError
from seqkit.parallel.parameters import named_tensors
from seqkit.storage import checkpoint
from seqkit.storage.weights import load_strictly, optimizer_tensors, restore_optimizer


def test_strict() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    good = {name: tensor.clone() for name, tensor in named_tensors(model).items()}
    before = copy.deepcopy(model.state_dict())
    wrong = {name: tensor + 1 for name, tensor in good.items()}
    for tensors, problem in [
        ({name: tensor for name, tensor in wrong.items() if name != "3.bias"}, "3.bias is missing"),
        (wrong | {"4.bias": torch.ones(2)}, "4.bias is unknown"),
        (wrong | {"3.bias": torch.ones(3)}, "3.bias has shape (3) instead of (2)"),
    ]:
        with pytest.raises(ModelError) as caught:
            load_strictly(model, tensors)
        assert problem in caught.value.what
    with pytest.raises(ModelError, match=r"(is missing.*){5} and 3 more"):
        load_strictly(model, {})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    load_strictly(model, wrong)
    assert torch.equal(named_tensors(model)["3.bias"], wrong["3.bias"])


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, betas=(0.9, 0.98)),
    "adamw fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.1, momentum=0.5, centered=True),
    "muon": lambda parameters: torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=0.1),
}


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    value = torch.linspace(-1, 1, 10, dtype=next(model.parameters()).dtype).view(2, 5)
    model(value).square().sum().backward()
    optimizer.step()


def names_of(model: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizer_goes_on_as_if_never_stopped(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).to(dtype)
    model[2].bias.requires_grad_(False)  # has no state
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(3):
        step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 0.05

    twin = copy.deepcopy(model)
    other = OPTIMIZERS[kind](twin.parameters())
    tensors, facts = optimizer_tensors(optimizer, names_of(model))
    path = checkpoint.save(tmp_path, 3, tensors={"optimizer": tensors}, training={"optimizer": facts}, codec="")
    found = checkpoint.read(path)
    loaded = found.tensors("optimizer") if tensors else {}
    restore_optimizer(other, names_of(twin), tensors=loaded, facts=found.training["optimizer"])

    ours, theirs = optimizer.state_dict(), other.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for position, state in ours["state"].items():
        assert state.keys() == theirs["state"][position].keys()
        for key, value in state.items():
            copied = theirs["state"][position][key]
            if isinstance(value, Tensor):
                assert value.dtype == copied.dtype
                assert torch.equal(value, copied)
            else:
                assert value == copied
    step(model, optimizer)
    step(twin, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_two_optimizers_in_one_file() -> None:
    model = nn.Linear(5, 4)
    names = names_of(model)
    pair: list[torch.optim.Optimizer]
    pair = [torch.optim.Muon([model.weight], lr=0.1), torch.optim.AdamW([model.bias], lr=0.1)]
    for optimizer in pair:
        step(model, optimizer)
    parts = [optimizer_tensors(optimizer, names) for optimizer in pair]
    together = parts[0][0] | parts[1][0]
    pair = [torch.optim.Muon([model.weight], lr=0.2), torch.optim.AdamW([model.bias], lr=0.2)]
    for optimizer, (tensors, facts) in zip(pair, parts, strict=True):
        restore_optimizer(optimizer, names, tensors=together, facts=facts)
        assert optimizer_tensors(optimizer, names)[0].keys() == tensors.keys()


def test_execution_stays_the_machines() -> None:
    model = nn.Linear(5, 4)
    fused, plain = (torch.optim.AdamW(model.parameters(), fused=flag) for flag in (True, False))
    step(model, fused)
    tensors, facts = optimizer_tensors(fused, names_of(model))
    restore_optimizer(plain, names_of(model), tensors=tensors, facts=facts)
    assert plain.param_groups[0]["fused"] is False


def test_foreign_state_is_refused() -> None:
    model = nn.Linear(5, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model, optimizer)
    names = names_of(model)
    tensors, facts = optimizer_tensors(optimizer, names)
    assert msgspec.json.decode(msgspec.json.encode(facts))["kind"] == "AdamW"
    before = optimizer.state_dict()
    with pytest.raises(ModelError, match="is AdamW's, not SGD's"):
        restore_optimizer(torch.optim.SGD(model.parameters()), names, tensors=tensors, facts=facts)
    with pytest.raises(ModelError, match="other parameters"):
        restore_optimizer(torch.optim.AdamW([model.weight]), names, tensors=tensors, facts=facts)
    partial = {name: tensor for name, tensor in tensors.items() if name != "bias/exp_avg"}
    with pytest.raises(ModelError, match="bias/exp_avg is missing"):
        restore_optimizer(optimizer, names, tensors=partial, facts=facts)
    assert str(optimizer.state_dict()) == str(before)
