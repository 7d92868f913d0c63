"""When memory runs out: how to tell, what to free, how to read a batch in parts, and how much was used."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from seqkit.batch import Batch

__all__ = ["free", "parts", "peak", "ran_out"]

# What torch says on a CPU, where it has no error of its own for it.
WORDS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def free(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def parts(batch: Batch, count: int) -> Iterator[tuple[Tensor, Batch]]:
    """The batch in at most `count` parts of whole rows, each with the rows (M,) that it has; one part is the batch."""
    rows = torch.arange(len(batch.targets.ids), device=batch.targets.ids.device)
    if count == 1:
        yield rows, batch
        return
    for part in rows.tensor_split(min(count, len(rows))):
        yield part, batch.rows(part)


def peak(device: torch.device) -> int:
    """The most memory used so far, in bytes: of this process on a CPU, of torch's tensors on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
