"""What the machine offers, and the host settings that make training fast on it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

__all__ = ["alive", "cores", "fast_bfloat16", "keep_heap", "process_age"]

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
CLOCK_SECONDS = 5.0  # by which the clock may have been set since


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_heap() -> bool:
    """Let glibc keep freed memory instead of returning every large tensor to the kernel; whether it did.

    torch allocates and frees large temporaries at each step; mapping and unmapping them costs page faults that take as
    long as the arithmetic on small models. Only glibc knows the call; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    largest = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, largest)) and bool(mallopt(M_TRIM_THRESHOLD, largest))


def fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def alive(process: int, *, since: float | None = None) -> bool:
    """Whether a process runs on this machine; one that began after `since` (UTC seconds) only has an older one's id."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if _state(process) in ("Z", "X"):  # dead, but its parent has not asked yet
        return False
    return since is None or time.time() - process_age(process) <= since + CLOCK_SECONDS


def process_age(process: int | None = None) -> float:
    """Seconds since a process, or else this one, was started; 0 where the system does not tell."""
    try:
        started = int(_facts(os.getpid() if process is None else process)[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _facts(process: int) -> list[str]:
    """What Linux tells of a process, from its state on; the name before that may hold anything."""
    return (
        (Path("/proc") / str(process) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    )


def _state(process: int) -> str:
    try:
        return _facts(process)[0]
    except (OSError, IndexError):
        return ""
