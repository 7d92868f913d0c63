"""The parameters of a module by name, and the interface for validating with other values of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from seqkit.parallel.shards import is_sharded

__all__ = ["EvaluationWeights", "named_tensors", "unwrapped_names"]


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """For each name of a state dict, the name without the prefixes of wrapper modules (`_orig_mod`, `module`)."""
    unwrapped = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in names}
    while unwrapped and all(name.startswith("module.") for name in unwrapped.values()):
        unwrapped = {name: short.removeprefix("module.") for name, short in unwrapped.items()}
    return unwrapped


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by unwrapped name, sharing the module's memory; a tied tensor has its first name only."""
    state: dict[str, Tensor] = module.state_dict()
    unwrapped = unwrapped_names(state)
    first = {name for name, _ in module.named_parameters()}
    duplicates = {name for name, _ in module.named_parameters(remove_duplicate=False)} - first
    tensors: dict[str, Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    for name, tensor in state.items():
        if is_sharded(tensor):  # its shard may be empty and have no address; every sharded tensor is a parameter
            if name not in duplicates:
                tensors[unwrapped[name]] = tensor
            continue
        # The whole view, not the storage: fused recurrent layers keep different weights in one storage.
        view = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if not tensor.data_ptr() or view not in seen:  # tensors without memory are never tied
            seen.add(view)
            tensors[unwrapped[name]] = tensor
    return tensors


class EvaluationWeights(Protocol):
    """Weights to validate a model with instead of its current ones, such as their moving average."""

    def applied(self) -> contextlib.AbstractContextManager[None]:
        """Within the body the model has these weights."""
        ...
