"""Data parallelism over processes by `torch.distributed`, started by `launch` on a CPU or by torchrun anywhere.

Every process holds the whole model and reads its slice of each global batch; gradients are summed. Decisions about the
run (stop, skip) are part of the same sum, so that all processes decide alike without another collective operation.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor

from seqkit.errors import ResourceError

__all__ = ["Processes", "connect", "joined_group", "launch", "lost_process_reported", "sigterm_terminates"]

TIMEOUT = datetime.timedelta(minutes=10)
LAUNCHED = "SEQKIT_LAUNCHED"  # distinguishes workers of `launch` from processes that torchrun started

_joined = False


class Processes:
    """The group of a run's processes, seen from the process of one rank; a single process is a group of one."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @property
    def first(self) -> bool:
        """Whether this is the process of rank 0, which alone writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over all processes."""
        if self.world > 1:
            with _backend_errors_reported():
                dist.all_reduce(tensor)

    def interleave(self, part: Tensor, rows: int) -> Tensor:
        """The whole tensor (rows, ...) of which `part` holds rows rank, rank + world, ...; surplus rows are ignored."""
        if self.world == 1:
            return part
        whole = part.new_zeros(rows, *part.shape[1:])
        view = whole[self.rank :: self.world]
        view.copy_(part[: len(view)])
        self.sum(whole)
        return whole

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank; they must be encodable as JSON."""
        if self.world == 1:
            return [value]
        content = torch.frombuffer(bytearray(msgspec.json.encode(value)), dtype=torch.uint8)
        sizes = torch.zeros(self.world, dtype=torch.int64)
        sizes[self.rank] = len(content)
        with _backend_errors_reported():
            dist.all_reduce(sizes)
            padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
            padded[: len(content)] = content
            parts = [torch.empty_like(padded) for _ in range(self.world)]
            dist.all_gather(parts, padded)
        return [
            msgspec.json.decode(part[:size].numpy().tobytes()) for part, size in zip(parts, sizes.tolist(), strict=True)
        ]

    def broadcast(self, value: Any) -> Any:
        """The value of the first process, on every process."""
        return self.gather(value if self.first else None)[0]

    def barrier(self) -> None:
        """Wait until every process has called this method."""
        self.gather(None)

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()


@contextlib.contextmanager
def _backend_errors_reported() -> Iterator[None]:
    """Around a collective operation: raise ResourceError when it fails because another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise _lost_process(error) from error


@contextlib.contextmanager
def lost_process_reported() -> Iterator[None]:
    """Around work with collective operations: raise ResourceError for their errors only, not for other ones."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        raise _lost_process(error) from error


def _lost_process(error: RuntimeError) -> ResourceError:
    return ResourceError(
        f"lost another process of this run ({str(error).splitlines()[0][:120]})",
        "the last checkpoint stands; the same command goes on from it",
    )


def connect(device: torch.device) -> Processes:
    """Join the group of processes that torchrun or `launch` started (RANK, WORLD_SIZE), or form a group of one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if device.type == "cuda":
        torch.cuda.set_device(device)  # the GPU of the backend and of code that names no device
    if world == 1:
        return Processes()
    if rank > 0 and LAUNCHED in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        dist.TCPStore(address, port, is_master=False, timeout=TIMEOUT).set(f"here/{rank}", "yes")  # type: ignore[attr-defined]
    # Values other than gradients are exchanged on the CPU, whatever the device.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    global _joined
    _joined = True
    return Processes(rank, world)


def joined_group() -> bool:
    """Whether this process joined a group of several at any time, and so may have threads of the backend left."""
    return _joined


@contextlib.contextmanager
def sigterm_terminates() -> Iterator[None]:
    """Restore the default action of SIGTERM while a process waits in the backend, where Python handlers do not run.

    Without it, torchrun waits half a minute for the other processes when the first one fails to start. They have
    nothing to save at that point. The workers of `launch` are ended by the first process.
    """
    if LAUNCHED in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def launch(count: int, arguments: Sequence[str]) -> Iterator[None]:
    """Start `count` - 1 workers beside this process, each running `python -m seqkit` with the same arguments.

    All processes, this one with rank 0, get the environment that torchrun would give them, join by `connect`, and
    divide the threads of this process. Raises ResourceError for a worker that ends before it joins; a worker that is
    still running some time after the body is killed.
    """
    if count == 1:
        yield
        return
    threads = max(1, torch.get_num_threads() // count)
    torch.set_num_threads(threads)
    # The rendezvous store chooses a free port and runs in this process, as torchrun's runs in its agent.
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, count, is_master=True, wait_for_workers=False, timeout=TIMEOUT
    )
    shared = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        LAUNCHED: "1",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "seqkit", *arguments],
            env={**os.environ, **shared, "OMP_NUM_THREADS": str(threads), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for rank in range(1, count)
    ]
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    timeout = 1.0
    try:
        _await(workers, store)
        yield
        timeout = 20.0
    finally:
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=timeout)
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        for name in (*shared, "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)


def _await(workers: Sequence[subprocess.Popen[bytes]], store: Any) -> None:
    """Wait until every worker has reported; the backend itself would wait ten minutes for a dead one."""
    missing = dict(enumerate(workers, start=1))
    while missing:
        for rank, worker in list(missing.items()):
            if store.check([f"here/{rank}"]):
                del missing[rank]
            elif worker.poll() is not None:
                raise ResourceError(
                    f"process {rank} of this run did not start (exit code {worker.returncode})",
                    "see its message above; train.processes=1 does without it",
                )
        time.sleep(0.02)
