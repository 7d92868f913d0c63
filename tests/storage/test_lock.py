"""One trainer to a folder: the living are respected, the dead are not waited for."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seqkit.errors import BusyError, ResourceError
from seqkit.storage.lock import EXPIRY, RunLock

HOLD = """
import sys, time
from pathlib import Path
from seqkit.storage.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def claim(run: Path, *, pid: int, host: str, silent: float = 0.0) -> None:
    """A lock as its holder leaves it, who gave a sign of life so many seconds ago."""
    lock = run / "lock"
    lock.write_text(json.dumps({"pid": pid, "host": host, "started": 0.0}))
    os.utime(lock, (lock.stat().st_mtime - silent,) * 2)


def until(met: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    for _ in range(1000):
        if met():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")


def dead_process() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_names_its_holder_and_goes_away(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        holder = json.loads((tmp_path / "lock").read_bytes())
        assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
        assert lock.warning is None
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path) as lock:
        assert lock.warning is None


def test_second_trainer_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(BusyError) as caught, RunLock(tmp_path):
            pass
        assert caught.value.exit_code == 8
        assert f"process {first.pid} on host {socket.gethostname()}" in caught.value.what
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    with RunLock(tmp_path) as lock:
        assert lock.warning is not None
        assert f"process {first.pid}, which is dead" in lock.warning


def test_same_process_twice(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(BusyError, match=str(os.getpid())), RunLock(tmp_path):
            pass
        assert (tmp_path / "lock").exists()


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', "[]", "\0" * 50])
def test_unreadable_lock_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    with RunLock(tmp_path) as lock:
        assert (lock.warning is None) == (content == "")


@pytest.mark.parametrize("pid", [0, -1, 1 << 70])
def test_impossible_processes_are_dead(tmp_path: Path, pid: int) -> None:
    claim(tmp_path, pid=pid, host=socket.gethostname())
    with RunLock(tmp_path) as lock:
        assert lock.warning


def test_a_number_that_another_process_has_by_now_holds_nothing(tmp_path: Path) -> None:
    """Who were to hold this folder would hold the system's lock on the file too."""
    claim(tmp_path, pid=os.getppid(), host=socket.gethostname())
    with RunLock(tmp_path) as lock:
        assert f"process {os.getppid()}" in (lock.warning or "")


def test_written_holder_decides_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    here = socket.gethostname()
    claim(tmp_path, pid=dead_process(), host=here)
    with RunLock(tmp_path) as lock:
        assert lock.warning
    for pid, host in [(os.getppid(), here), (1, here), (dead_process(), "elsewhere")]:
        claim(tmp_path, pid=pid, host=host)
        with pytest.raises(BusyError, match=f"process {pid} on host {host}"), RunLock(tmp_path):
            pass
        assert json.loads((tmp_path / "lock").read_bytes())["pid"] == pid


@pytest.mark.parametrize("silent", [0.0, EXPIRY - 5])
def test_one_on_another_host_is_respected_while_it_gives_signs_of_life(tmp_path: Path, silent: float) -> None:
    claim(tmp_path, pid=dead_process(), host="elsewhere", silent=silent)
    before = (tmp_path / "lock").read_bytes()
    with pytest.raises(BusyError, match="on host elsewhere, which gave a sign of life") as caught, RunLock(tmp_path):
        pass
    assert "try again in" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert (tmp_path / "lock").read_bytes() == before


@pytest.mark.parametrize("silent", [EXPIRY + 5, 1e6, -EXPIRY - 5])  # a time to come is no sign of life either
def test_a_silent_one_on_another_host_is_not_waited_for(tmp_path: Path, silent: float) -> None:
    claim(tmp_path, pid=os.getpid(), host="elsewhere", silent=silent)
    with RunLock(tmp_path) as lock:
        assert f"process {os.getpid()} on host elsewhere, which gave no sign of life" in (lock.warning or "")
        assert json.loads((tmp_path / "lock").read_bytes())["host"] == socket.gethostname()


def test_a_holder_gives_signs_of_life(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with RunLock(tmp_path, heartbeat=0.01) as lock:
        for _ in range(2):
            os.utime(path, (0, 0))
            until(lambda: path.stat().st_mtime > 0)
        lock.check()
    assert not path.exists()


@pytest.mark.parametrize("in_place", [True, False])
def test_who_lost_the_folder_while_it_stood_still_says_so_and_leaves_the_lock(tmp_path: Path, in_place: bool) -> None:
    with RunLock(tmp_path, heartbeat=0.01) as lock:
        if in_place:
            claim(tmp_path, pid=7, host="elsewhere")
        else:
            (tmp_path / "other").mkdir()
            claim(tmp_path / "other", pid=7, host="elsewhere")
            (tmp_path / "other" / "lock").replace(tmp_path / "lock")
        until(lambda: lock.successor is not None)
        whose = "another process" if in_place else "process 7 on host elsewhere"  # half written, it has no name
        with pytest.raises(BusyError, match=rf"(process 7 on host elsewhere|{whose}) took .* over"):
            lock.check()
        os.utime(tmp_path / "lock", (0, 0))
        time.sleep(0.05)
        assert (tmp_path / "lock").stat().st_mtime == 0  # no sign of life in another's name
    assert json.loads((tmp_path / "lock").read_bytes())["host"] == "elsewhere"


def test_a_lock_removed_by_hand_is_no_loss(tmp_path: Path) -> None:
    with RunLock(tmp_path, heartbeat=0.01) as lock:
        (tmp_path / "lock").unlink()
        time.sleep(0.05)
        lock.check()


def test_a_lock_removed_by_hand_is_not_given_back_twice(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / "lock").unlink()
        claim(tmp_path, pid=1, host="elsewhere")
    assert json.loads((tmp_path / "lock").read_bytes())["host"] == "elsewhere"


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot lock"), RunLock(tmp_path / "absent"):
        pass
