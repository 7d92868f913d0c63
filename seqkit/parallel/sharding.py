"""Parameters, gradients and optimizer state shared out over the processes, by torch's `fully_shard` (ZeRO, stage 3;
Rajbhandari et al., 2020): models beyond one device.

A unit's parameters are whole only while it works: each Transformer layer is a unit, with the attention of a decoder
layer to the source apart, as the source is projected before the layer's turn; all the rest is the root unit, whole
throughout a step. Each call of a unit is an exchange between all processes. So all must call the same units in the same
order: a step may not depend on chance or on room in ways that differ between processes, and validation, where each
works through lines of its own, has a whole model beside the shared one.
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
from seqkit.parallel.parameters import Weights, named_tensors
from seqkit.parallel.processes import Processes
from seqkit.parallel.shards import local, whole

__all__ = ["Replica", "ShardedGradients", "shard"]


def shard(objective: nn.Module, processes: Processes, device: torch.device) -> None:
    """Leave this process its share of the parameters, on the device; their names and values stay what they are.

    Before, every process must hold the same whole model, which may lie on the CPU: units go to the device one by one.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    # It is afraid of work in place on what units return, of which there is none.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    mesh = init_device_mesh(device.type, (processes.world,))
    for layer in _layers(objective):
        for part, methods in layer.called_apart.items():
            fully_shard(part, mesh=mesh)
            for method in methods:
                register_fsdp_forward_method(part, method)
    for layer in _layers(objective):
        fully_shard(layer, mesh=mesh)
        for method in layer.methods:
            register_fsdp_forward_method(layer, method)
    fully_shard(objective, mesh=mesh)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # a sum: the loss was divided by all tokens already
            module.set_force_sum_reduction_for_comms(True)


def _layers(model: nn.Module) -> Iterator[EncoderLayer | DecoderLayer]:
    """The layers of all stacks."""
    for stack in model.modules():
        if isinstance(stack, LayerStack):
            yield from cast("Iterable[EncoderLayer | DecoderLayer]", stack)


class ShardedGradients:
    """The gradients of parameters that are shared out: summed where they are made, so only the numbers of a step travel
    here, among them the norm."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.norm = 0.0

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def sum(self, processes: Processes, tally: Tally, *, stop: bool) -> tuple[Tally, bool]:
        """Sum tallies over all processes; also whether any of them wishes to stop."""
        if all(parameter.grad is None for parameter in self.parameters):
            raise RuntimeError("no gradient came back from the processes: this torch does not see the loss")
        for parameter in self.parameters:
            if parameter.grad is None:  # no process needed it; an optimizer's moments fade all the same
                parameter.grad = torch.zeros_like(parameter)
        square = torch.stack(torch._foreach_norm(self._shares())).double().square().sum()
        wish = torch.full_like(square, float(stop))
        numbers = torch.stack([*(part.double() for part in (tally.objective, tally.nll, tally.tokens)), wish, square])
        processes.sum(numbers)
        objective, nll, tokens, stops, square = numbers
        self.norm = math.sqrt(float(square))
        return Tally(objective, nll, tokens), bool(stops > 0)

    def clip(self, maximum: float | None) -> float:
        """Scale the gradients down to the norm `maximum`; their norm before."""
        if maximum is not None and self.norm > maximum:
            torch._foreach_mul_(self._shares(), maximum / self.norm)
        return self.norm

    def _shares(self) -> list[Tensor]:
        return [local(parameter.grad) for parameter in self.parameters if parameter.grad is not None]


class Replica:
    """A whole model beside a shared one, on every process, with memory only while it is applied.

    It is the price of validation, which shares out lines, not layers: a model must fit on a device by itself, though
    not with its gradients and its optimizer's state.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        """Copy a model before it is shared out."""
        self.shared = model
        self.model = copy.deepcopy(model).to(device).eval()
        self.own = named_tensors(self.model)
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in self.own.values()}
        self.storages = [(storage, storage.nbytes()) for storage in storages.values()]
        self.average: Weights | None = None
        self._free()

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the body the replica has the shared model's weights, or their averages; all processes come at once."""
        try:
            for storage, size in self.storages:
                storage.resize_(size)
            with contextlib.nullcontext() if self.average is None else self.average.applied(), torch.no_grad():
                for name, tensor in named_tensors(self.shared).items():
                    self.own[name].copy_(whole(tensor))
            yield
        finally:
            self._free()

    def _free(self) -> None:
        for storage, _ in self.storages:
            storage.resize_(0)
