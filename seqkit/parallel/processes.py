"""Data parallelism over processes: one engine for our own processes on a CPU and for torchrun anywhere.

Every process holds the whole model and reads its slice of each global batch; gradients are summed. What decides about
the run (stop, skip) travels in the same sum, so that all processes decide alike without another exchange.
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

__all__ = ["Processes", "connect", "joined_group", "launch", "lost_partner_reported", "sigterm_ends"]

TIMEOUT = datetime.timedelta(minutes=10)
LAUNCHED = "SEQKIT_LAUNCHED"  # tells the partners of `launch` from processes that torchrun started

_met = False


class Processes:
    """The processes of a run as one of them sees it; a single process is a group of one."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace the tensor by its sum over all processes."""
        if self.world > 1:
            with _told():
                dist.all_reduce(tensor)

    def interleave(self, own: Tensor, rows: int) -> Tensor:
        """All `rows` of a tensor of which this process has rows r, r + world, ... (more are ignored): (rows, ...)."""
        if self.world == 1:
            return own
        whole = own.new_zeros(rows, *own.shape[1:])
        mine = whole[self.rank :: self.world]
        mine.copy_(own[: len(mine)])
        self.sum(whole)
        return whole

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank; values are what JSON can hold."""
        if self.world == 1:
            return [value]
        content = torch.frombuffer(bytearray(msgspec.json.encode(value)), dtype=torch.uint8)
        sizes = torch.zeros(self.world, dtype=torch.int64)
        sizes[self.rank] = len(content)
        with _told():
            dist.all_reduce(sizes)
            padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
            padded[: len(content)] = content
            parts = [torch.empty_like(padded) for _ in range(self.world)]
            dist.all_gather(parts, padded)
        return [
            msgspec.json.decode(part[:size].numpy().tobytes()) for part, size in zip(parts, sizes.tolist(), strict=True)
        ]

    def broadcast(self, value: Any) -> Any:
        """The first process's value, everywhere."""
        return self.gather(value if self.first else None)[0]

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.gather(None)

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn the engine's errors into one a person can act on: a partner that died ends the run, it never hangs it."""
    try:
        yield
    except RuntimeError as error:
        raise _lost(error) from error


@contextlib.contextmanager
def lost_partner_reported() -> Iterator[None]:
    """The same around work with exchanges within, of which not every error is the engine's."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        raise _lost(error) from error


def _lost(error: RuntimeError) -> ResourceError:
    return ResourceError(
        f"lost another process of this run ({str(error).splitlines()[0][:120]})",
        "the last checkpoint stands; the same command goes on from it",
    )


def connect(device: torch.device) -> Processes:
    """Join the processes that torchrun or `launch` started (RANK and WORLD_SIZE), or be alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where the engine, and whatever names no device, looks for its GPU
    if world == 1:
        return Processes()
    if rank > 0 and LAUNCHED in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        dist.TCPStore(address, port, is_master=False, timeout=TIMEOUT).set(f"here/{rank}", "yes")  # type: ignore[attr-defined]
    # What the processes tell each other besides gradients lies on the CPU, whatever the device.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT)
    global _met
    _met = True
    return Processes(rank, world)


def joined_group() -> bool:
    """Whether this process ever was one of several, and so may have threads of the engine left."""
    return _met


@contextlib.contextmanager
def sigterm_ends() -> Iterator[None]:
    """Let SIGTERM end a process at once while it waits for the first one in the engine, where no handler of ours runs.

    Without, torchrun waits half a minute for the others when the first one refuses to start. They have nothing to save
    yet. Partners of `launch` are ended by the first process.
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
    """Start `count` - 1 partners of this process, each running `python -m seqkit` with the same arguments.

    All of them, this one as rank 0, see the environment that torchrun would give them and meet by `connect`; they share
    this one's threads out. A partner that dies on the way raises ResourceError; one that outlives the body is ended.
    """
    if count == 1:
        yield
        return
    threads = max(1, torch.get_num_threads() // count)
    torch.set_num_threads(threads)
    # The meeting place chooses its own free port and lives in this process, as torchrun's lives in its agent.
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
    partners = [
        subprocess.Popen(
            [sys.executable, "-m", "seqkit", *arguments],
            env={**os.environ, **shared, "OMP_NUM_THREADS": str(threads), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for rank in range(1, count)
    ]
    os.environ.update(shared, RANK="0", LOCAL_RANK="0")
    patience = 1.0
    try:
        _await(partners, store)
        yield
        patience = 20.0
    finally:
        for partner in partners:
            with contextlib.suppress(subprocess.TimeoutExpired):
                partner.wait(timeout=patience)
            if partner.poll() is None:
                partner.kill()
                partner.wait()
        for name in (*shared, "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)


def _await(partners: Sequence[subprocess.Popen[bytes]], store: Any) -> None:
    """Wait until every partner has reported; the engine itself would wait ten minutes for one that died."""
    waiting = dict(enumerate(partners, start=1))
    while waiting:
        for rank, partner in list(waiting.items()):
            if store.check([f"here/{rank}"]):
                del waiting[rank]
            elif partner.poll() is not None:
                raise ResourceError(
                    f"process {rank} of this run did not start (exit code {partner.returncode})",
                    "see its message above; train.processes=1 does without it",
                )
        time.sleep(0.02)
