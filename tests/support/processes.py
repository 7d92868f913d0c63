"""Two processes that do the same things at the same time, and say what came of it."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from seqkit.parallel.processes import Processes

Job = Callable[[Processes], Any]


def join(path: Path, rank: int) -> Processes:
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    return Processes(rank, 2)


def partner(path: Path, wire: Connection) -> None:
    """The second process: does what it is told until it is told None."""
    processes = join(path, 1)
    torch.set_num_threads(1)
    while (job := wire.recv()) is not None:
        wire.send(job(processes))
    processes.close()


class Pair:
    """This process and its partner, in step."""

    def __init__(self, path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.wire, other = context.Pipe()
        self.process = context.Process(target=partner, args=(path, other), daemon=True)
        self.process.start()
        self.processes = join(path, 0)

    def both(self, job: Job) -> tuple[Any, Any]:
        """What the job gives here and there."""
        self.wire.send(job)
        here = job(self.processes)
        assert self.wire.poll(60), "the partner does not answer"
        return here, self.wire.recv()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.wire.send(None)
        self.processes.close()
        self.process.join(10)
