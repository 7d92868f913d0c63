"""What the machine offers, and the host settings that make training fast on it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

__all__ = ["cores", "fast_bfloat16", "keep_heap", "process_age"]

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


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


def process_age() -> float:
    """Seconds since this process was started; 0 where the system does not tell."""
    try:
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
