"""Parameters, gradients and optimizer state sharded over the processes, for models larger than one device, by torch's
`fully_shard` (ZeRO, stage 3; Rajbhandari et al., 2020).

The parameters of a unit are gathered only while it computes. Each Transformer layer is a unit; the cross-attention of a
decoder layer is a unit of its own, as it projects the source before the layer is called; everything else is the root
unit, gathered throughout a step. Each call of a unit is a collective operation, so all processes must call the same
units in the same order: a step may not depend on randomness or free memory that differ between processes. In
validation each process reads different lines, so it uses a full copy of the model (`Replica`).
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from seqkit.layers.stack import LayerStack
from seqkit.layers.transformer import DecoderLayer, EncoderLayer
from seqkit.loss import Tally
from seqkit.parallel.parameters import EvaluationWeights, named_tensors
from seqkit.parallel.processes import Processes
from seqkit.parallel.shards import full_tensor, local_shard

__all__ = ["Replica", "ShardedGradients", "shard"]


def shard(objective: nn.Module, processes: Processes, device: torch.device) -> None:
    """Replace each parameter by this process's shard of it, on the device; names and values stay the same.

    Every process must hold the same full model, which may be on the CPU: units are moved to the device one by one.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    # The warning concerns in-place operations on the outputs of units, and there are none.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    mesh = init_device_mesh(device.type, (processes.world,))
    for layer in _layers(objective):
        for part, methods in layer.separately_called.items():
            fully_shard(part, mesh=mesh)
            for method in methods:
                register_fsdp_forward_method(part, method)
    for layer in _layers(objective):
        fully_shard(layer, mesh=mesh)
        for method in layer.forward_methods:
            register_fsdp_forward_method(layer, method)
    fully_shard(objective, mesh=mesh)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum: the loss is already divided by the tokens of all processes
            module.set_force_sum_reduction_for_comms(True)


def _layers(model: nn.Module) -> Iterator[EncoderLayer | DecoderLayer]:
    """The layers of all stacks."""
    for stack in model.modules():
        if isinstance(stack, LayerStack):
            yield from cast("Iterable[EncoderLayer | DecoderLayer]", stack)


class ShardedGradients:
    """The gradients of sharded parameters. The backward pass itself sums them over the processes, so `sum` only adds up
    the tallies of a step and the norm of the gradients."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.norm = 0.0

    def clear(self) -> None:
        """Set all gradients to None."""
        for parameter in self.parameters:
            parameter.grad = None

    def sum(self, processes: Processes, tally: Tally, *, stop: bool) -> tuple[Tally, bool]:
        """Sum tallies over all processes; also whether any of them requests a stop."""
        if all(parameter.grad is None for parameter in self.parameters):
            raise RuntimeError("no gradient came back from the processes: this torch does not see the loss")
        for parameter in self.parameters:
            if parameter.grad is None:  # no process used it; the optimizer's moments must decay nevertheless
                parameter.grad = torch.zeros_like(parameter)
        square = torch.stack(torch._foreach_norm(self._shards())).double().square().sum()
        request = torch.full_like(square, float(stop))
        sums = [part.double() for part in (tally.objective, tally.nll, tally.tokens)]
        numbers = torch.stack([*sums, request, square])
        processes.sum(numbers)
        objective, nll, tokens, stops, square = numbers
        self.norm = math.sqrt(float(square))
        return Tally(objective, nll, tokens), bool(stops > 0)

    def clip(self, maximum: float | None) -> float:
        """Scale the gradients down to the norm `maximum`; returns their norm before."""
        if maximum is not None and self.norm > maximum:
            torch._foreach_mul_(self._shards(), maximum / self.norm)
        return self.norm

    def _shards(self) -> list[Tensor]:
        return [local_shard(parameter.grad) for parameter in self.parameters if parameter.grad is not None]


class Replica:
    """A full copy of a sharded model on every process, which has memory only while it is applied.

    Validation needs it, because it divides lines among the processes, not layers: a model must fit on one device by
    itself, though not together with its gradients and its optimizer's state.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Copy a model before it is sharded."""
        self.sharded = model
        self.model = copy.deepcopy(model).to(device).eval()
        self.tensors = named_tensors(self.model)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in self.tensors.values()}
        self.storages = [(storage, storage.nbytes()) for storage in storages.values()]
        self.average: EvaluationWeights | None = None
        self._free()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the body the replica has the sharded model's weights, or their average; collective."""
        try:
            for storage, size in self.storages:
                storage.resize_(size)
            with contextlib.nullcontext() if self.average is None else self.average.applied(), torch.no_grad():
                for name, tensor in named_tensors(self.sharded).items():
                    self.tensors[name].copy_(full_tensor(tensor))
            yield
        finally:
            self._free()

    def _free(self) -> None:
        for storage, _ in self.storages:
            storage.resize_(0)
