"""Tensors sharded over processes (torch's DTensor): the local shard, the full tensor, and sharding of a full one.

Every function also accepts plain tensors and leaves them unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from torch import Tensor

from seqkit.parallel.processes import lost_process_reported

__all__ = ["full_tensor", "full_tensors", "is_sharded", "local_shard", "shard_like"]


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a shard of the tensor."""
    # Importing the module takes a second; until something has imported it, there is no sharded tensor.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_shard(tensor: Tensor) -> Tensor:
    """This process's shard of a tensor, in the same memory."""
    shard: Tensor = tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return shard


@lost_process_reported()
def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor gathered from all shards: a collective operation, which every process must call."""
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return full


def full_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The full tensors, gathered one by one, on the CPU if they are sharded; without `keep` an empty dictionary.

    Every process must call this with the same names in the same order; only one with `keep` needs memory for all.
    """
    gathered = {}
    for name, tensor in tensors.items():
        full = full_tensor(tensor)
        if keep:
            gathered[name] = full.cpu().contiguous() if is_sharded(tensor) else full
        del full
    return gathered


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """A full tensor, present on every process, sharded as `like` is; needs no communication."""
    if not is_sharded(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(full.to(like.device), mesh, placements, src_data_rank=None)
