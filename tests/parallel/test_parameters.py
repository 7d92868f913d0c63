"""Parameters by name: the same however a module is wrapped, and a tied one once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from seqkit.parallel.parameters import named_tensors
from seqkit.storage import checkpoint
from seqkit.storage.weights import load_strictly


class Tied(nn.Module):
    """Source, target and output layer share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.source = nn.Embedding(7, 4)
        self.target = nn.Embedding(7, 4)
        self.output = nn.Linear(4, 7)
        self.target.weight = self.source.weight
        self.output.weight = self.source.weight
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.output((self.source(ids) + self.target(ids)) * self.scale)
        return logits


class Wrapper(nn.Module):
    """Names its inner module as data parallelism does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Compiled(nn.Module):
    """Names its inner module as `torch.compile` does, whose first use takes seconds."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


def compiled(module: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(module))


def test_tied_once(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    tensors = named_tensors(model)
    assert tensors.keys() == {"source.weight", "output.bias", "scale"}
    path = checkpoint.save(tmp_path, 1, tensors={"model": tensors}, training={}, codec="")
    assert (path / "model.safetensors").stat().st_size < 2 * model.source.weight.nbytes + 300
    load_strictly(other, checkpoint.read(path).tensors("model"))
    assert other.source.weight.data_ptr() == other.target.weight.data_ptr() == other.output.weight.data_ptr()
    assert len(list(other.parameters())) == 2
    ids = torch.tensor([[1, 2, 6]])
    assert torch.equal(model(ids), other(ids))


def test_parts_of_one_storage_are_no_ties() -> None:
    model = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)])
    flat = torch.randn(32)
    for index, layer in enumerate(model):
        layer.weight = nn.Parameter(flat[16 * index : 16 * index + 16].view(4, 4))
    assert len(named_tensors(model)) == 2
    assert len(named_tensors(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to("meta"))) == 4


@pytest.mark.parametrize(
    "wrap",
    [
        Compiled,
        Wrapper,
        lambda model: Compiled(Wrapper(model)),
        lambda model: Wrapper(Compiled(Wrapper(model))),
        pytest.param(
            compiled, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")]
        ),
    ],
)
def test_wrappers_leave_no_trace(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = Tied()
    wrapped = wrap(model)
    assert any("." in name for name in wrapped.state_dict())
    assert named_tensors(wrapped).keys() == named_tensors(model).keys()
    ones = {name: torch.ones_like(tensor) for name, tensor in named_tensors(model).items()}
    load_strictly(wrapped, ones)
    assert all(bool((tensor == 1).all()) for tensor in model.state_dict().values())


def test_a_compiled_part_leaves_no_trace() -> None:
    plain, part = Wrapper(nn.Linear(2, 2)), Wrapper(nn.Linear(2, 2))
    plain.register_buffer("other", torch.ones(1))
    part.register_buffer("other", torch.ones(1))
    part.module = Compiled(part.module)
    assert named_tensors(part).keys() == named_tensors(plain).keys() == {"module.weight", "module.bias", "other"}
