"""The parameters of a module by name, and who may put others in their place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from seqkit.parallel.shards import is_shared

__all__ = ["Weights", "bare_names", "named_tensors"]


def bare_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the prefixes of wrappers."""
    bare = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in names}
    while bare and all(name.startswith("module.") for name in bare.values()):
        bare = {name: short.removeprefix("module.") for name, short in bare.items()}
    return bare


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, sharing the module's memory; of a tied one, the first name only."""
    state: dict[str, Tensor] = module.state_dict()
    bare = bare_names(state)
    first = {name for name, _ in module.named_parameters()}
    again = {name for name, _ in module.named_parameters(remove_duplicate=False)} - first
    found: dict[str, Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    for name, tensor in state.items():
        # The whole view, not the storage: fused recurrent layers keep different weights in one storage.
        if is_shared(tensor):  # it may be a share without memory, but then it is a parameter
            if name not in again:
                found[bare[name]] = tensor
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if not tensor.data_ptr() or place not in seen:  # nothing is shared by tensors without memory
            seen.add(place)
            found[bare[name]] = tensor
    return found


class Weights(Protocol):
    """What puts the weights in place that are to be validated."""

    def applied(self) -> contextlib.AbstractContextManager[None]:
        """Within the body they are in place."""
        ...
