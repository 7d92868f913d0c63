"""What the machine offers, as the files of Linux tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.system.host import MachineMemory, memory, processor_share

GIB = 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    """A root folder with a machine of 8 GiB, 6 of them free."""
    told = {"proc/meminfo": f"MemTotal:       {8 << 20} kB\nMemAvailable:   {6 << 20} kB\n", **files}
    for name, content in told.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


FIRST, SECOND = "4:memory:/job\n3:cpu,cpuacct:/job", "0::/slice/job"
V1, V2 = "sys/fs/cgroup/memory/job", "sys/fs/cgroup/slice"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, MachineMemory(8 * GIB, 6 * GIB, None)),
        ({"proc/self/cgroup": SECOND, f"{V2}/job/memory.max": "max"}, MachineMemory(8 * GIB, 6 * GIB, None)),
        (
            {
                "proc/self/cgroup": SECOND,
                f"{V2}/job/memory.max": "max",
                f"{V2}/memory.max": str(2 * GIB),  # the limit may stand further out
                f"{V2}/memory.current": str(GIB),
            },
            MachineMemory(8 * GIB, GIB, 2 * GIB),
        ),
        (
            {
                "proc/self/cgroup": SECOND,
                f"{V2}/memory.max": str(2 * GIB),
                f"{V2}/memory.current": str(2 * GIB),
                f"{V2}/memory.stat": f"anon 5\ninactive_file {GIB}",  # files that were read are no load
            },
            MachineMemory(8 * GIB, GIB, 2 * GIB),
        ),
        (
            {
                "proc/self/cgroup": FIRST,
                f"{V1}/memory.limit_in_bytes": str(3 * GIB),
                f"{V1}/memory.usage_in_bytes": str(GIB),
            },
            MachineMemory(8 * GIB, 2 * GIB, 3 * GIB),
        ),
        (
            {"proc/self/cgroup": FIRST, f"{V1}/memory.limit_in_bytes": str(1 << 62)},
            MachineMemory(8 * GIB, 6 * GIB, None),
        ),
    ],
    ids=["none", "unlimited", "outer", "read", "first version", "no limit there"],
)
def test_a_container_s_limit_is_heeded(files: dict[str, str], found: MachineMemory, tmp_path: Path) -> None:
    assert memory(system(tmp_path, files)) == found


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    assert memory(tmp_path) == MachineMemory(None, None, None)
    assert processor_share(tmp_path) is None


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, None),
        ({"proc/self/cgroup": SECOND, f"{V2}/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": SECOND, f"{V2}/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "proc/self/cgroup": FIRST,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": FIRST,
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
            },
            None,
        ),
    ],
)
def test_a_container_s_share_of_the_processor(files: dict[str, str], share: float | None, tmp_path: Path) -> None:
    assert processor_share(system(tmp_path, files)) == share
