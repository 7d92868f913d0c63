"""Processors, memory and processes of the machine, and the settings of the C library that make training fast."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

__all__ = [
    "MachineMemory",
    "can_keep_heap",
    "cores",
    "fast_bfloat16",
    "is_alive",
    "keep_heap",
    "memory",
    "nvidia_driver",
    "process_age",
    "processor_flags",
    "processor_name",
    "processor_share",
]

ROOT = Path("/")
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
CLOCK_SECONDS = 5.0  # by which the system clock may have been adjusted


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_heap() -> bool:
    """Let glibc keep freed memory instead of returning every large tensor to the kernel; whether that succeeded.

    torch allocates and frees large temporaries at each step; mapping and unmapping them costs page faults that take as
    long as the arithmetic of small models. Only glibc has the call; with another C library nothing happens.
    """
    mallopt = _mallopt()
    if mallopt is None:
        return False
    largest = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, largest)) and bool(mallopt(M_TRIM_THRESHOLD, largest))


def can_keep_heap() -> bool:
    """Whether the C library has the call that `keep_heap` needs."""
    return _mallopt() is not None


def _mallopt() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        return cast(Callable[[int, int], int], ctypes.CDLL("libc.so.6").mallopt)
    except (OSError, AttributeError):
        return None


def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    return not processor_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def processor_flags() -> set[str]:
    """The instruction sets of the processor, as Linux names them; empty where unknown."""
    return set((_cpuinfo("flags") or _cpuinfo("Features")).split())


def processor_name() -> str:
    """The name of the processor; empty where unknown."""
    return _cpuinfo("model name")


def _cpuinfo(key: str, root: Path = ROOT) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def processor_share(root: Path = ROOT) -> float | None:
    """The processor time that the container of this process may use, in cores; None where nothing limits it."""
    limits = []
    for folder in _control_groups("cpu", root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota, period = quota or _read(folder / "cpu.cfs_quota_us"), period or _read(folder / "cpu.cfs_period_us")
        if (limit := _number(quota)) is not None and limit > 0 and (length := _number(period)):
            limits.append(limit / length)
    return min(limits, default=None)


class MachineMemory(NamedTuple):
    """The sizes of the main memory in bytes; None where unknown or unlimited."""

    total: int | None
    available: int | None  # to this process, under its container's limit
    limit: int | None


def memory(root: Path = ROOT) -> MachineMemory:
    """The machine's memory, and the part of it that the container of this process may use."""
    fields = dict(line.partition(":")[::2] for line in _read(root / "proc/meminfo").splitlines())
    total, available = (
        None if (size := _number(fields.get(name, "").removesuffix(" kB"))) is None else size << 10
        for name in ("MemTotal", "MemAvailable")
    )
    limit = None
    for folder in _control_groups("memory", root):
        for most, now in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            bound, used = _number(_read(folder / most)), _number(_read(folder / now))
            if bound is None or (total is not None and bound >= total):
                continue
            limit = min(bound, limit or bound)
            left = bound - (used or 0) + _reclaimable(folder)
            available = min(bound, left if available is None else min(left, available))
    return MachineMemory(total, None if available is None else max(0, available), limit)


def _reclaimable(group: Path) -> int:
    """The bytes of a control group's inactive page cache, which the kernel reclaims on demand."""
    fields = dict(line.partition(" ")[::2] for line in _read(group / "memory.stat").splitlines())
    return _number(fields.get("total_inactive_file", fields.get("inactive_file", ""))) or 0


def nvidia_driver(root: Path = ROOT) -> bool:
    """Whether this system has a driver for NVIDIA's GPUs."""
    return (root / "proc/driver/nvidia/version").exists()


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of their parents, for cgroup versions 1 and 2."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


def is_alive(process: int, *, since: float | None = None) -> bool:
    """Whether a process runs on this machine, and did so at `since` (UTC seconds): a later one has a reused id."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if _state(process) in ("Z", "X"):  # dead, but not yet reaped by its parent
        return False
    return since is None or time.time() - process_age(process) <= since + CLOCK_SECONDS


def process_age(process: int | None = None) -> float:
    """Seconds since the start of a process, by default this one; 0 where unknown."""
    try:
        started = int(_stat_fields(os.getpid() if process is None else process)[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _stat_fields(process: int) -> list[str]:
    """The fields of `/proc/ID/stat` from the state on; the program's name before it may hold any character."""
    return (
        (Path("/proc") / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )


def _state(process: int) -> str:
    try:
        return _stat_fields(process)[0]
    except (OSError, IndexError):
        return ""
