"""Tensors of which each process holds a share (torch's DTensor): their own part, the whole, and back.

Every function takes plain tensors too, and leaves them as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor

from seqkit.parallel.processes import lost_partner_reported

__all__ = ["is_shared", "local", "share_like", "whole", "whole_tensors"]


def is_shared(tensor: Tensor) -> bool:
    """Whether this process holds but a share of the tensor."""
    # Loading it takes a second, which runs that share nothing need not wait for: none has made one before that.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """This process's share, in the same memory."""
    share: Tensor = tensor.to_local() if is_shared(tensor) else tensor  # type: ignore[attr-defined]
    return share


@lost_partner_reported()
def whole(tensor: Tensor) -> Tensor:
    """The tensor that all shares make; every process has to ask for it at the same time."""
    full: Tensor = tensor.full_tensor() if is_shared(tensor) else tensor  # type: ignore[attr-defined]
    return full


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Each tensor as a whole, one after the other, on the CPU if it was shared; only `keep` has them stay.

    Every process has to ask for the same ones at the same time; one alone needs the memory for all of them.
    """
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            found[name] = full.cpu().contiguous() if is_shared(tensor) else full
        del full
    return found


def share_like(full: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, shared out as `like` is; nothing is exchanged."""
    if not is_shared(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(full.to(like.device), mesh, placements, src_data_rank=None)
