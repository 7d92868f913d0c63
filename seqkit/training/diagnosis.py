"""Where numbers stop being finite, for the message that ends a run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqkit.state import State, tensors_of

__all__ = ["culprit"]


def culprit(model: nn.Module, loss: Callable[[], Tensor]) -> str:
    """What first gives a number that is not finite when `loss` is computed and differentiated, in words.

    Weights are looked at before what the modules give, and that, in the order of the work, before the gradients.
    """
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"the weights {name}"
    names = {module: name for name, module in model.named_modules() if name}
    first: list[str] = []

    def look(module: nn.Module, _: object, output: State) -> None:
        if not first and isinstance(output, Tensor | tuple) and not all(map(_finite, tensors_of(output))):
            first.append(names[module])

    handles = [module.register_forward_hook(look) for module in names]
    try:
        value = loss()
    finally:
        for handle in handles:
            handle.remove()
    if first:
        return f"the output of {first[0]}"
    if not _finite(value):
        return "the loss"
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(value, [*parameters.values()], allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and not _finite(gradient):
            return f"the gradient of {name}"
    return "the norm of all gradients"


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
