"""One trainer to a run folder: `run/lock` says who."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

import msgspec

from seqkit.errors import BusyError, ResourceError
from seqkit.host import alive

__all__ = ["RunLock"]


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    host: str
    started: float  # UTC seconds


class RunLock:
    """Holds a run folder for this process while the `with` block runs.

    The system's own file lock decides between processes that start at the same instant, and vanishes with them; the
    written process id tells people who it is, and decides on file systems that have no such locks.
    After entering, `warning` says whose lock was taken over, if a dead process left one.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "lock"
        self.warning: str | None = None
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Take the folder. Raises BusyError naming the process that has it, ResourceError if nothing can be written."""
        try:
            self._descriptor, alone = self._open()
            content = os.pread(self._descriptor, 4096, 0)
            holder = _parse(content)
            if holder is not None and _lives(holder, alone=alone):
                raise self._busy(holder)
            if content:
                whose = f"process {holder.pid}, which is dead" if holder else "a process that did not finish writing it"
                self.warning = f"took over {self.path} from {whose}"
            own = _Holder(os.getpid(), socket.gethostname(), time.time())
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, msgspec.json.encode(own) + b"\n", 0)
        except OSError as error:
            self._close()
            raise ResourceError(f"cannot lock {self.path.parent}: {error.strerror}", "is it writable?") from error
        except BusyError:
            self._close()
            raise
        return self

    def _open(self) -> tuple[int, bool]:
        """The open file, and whether the system's own lock on it is ours."""
        while True:
            alone = True
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _parse(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                raise self._busy(holder) from None
            except OSError:
                alone = False  # a file system without locks: the process id decides
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor, alone
            os.close(descriptor)  # its holder removed the file between our opening and locking it

    def _busy(self, holder: _Holder | None) -> BusyError:
        whose = f"process {holder.pid} on host {holder.host}" if holder else "another process"
        return BusyError(
            f"{self.path.parent} is in use by {whose}",
            f"wait for it, train elsewhere with --out, or delete {self.path} if that process is no trainer any more",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        with contextlib.suppress(OSError):  # removed by hand, it may be another's by now
            if self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                self.path.unlink()
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _parse(content: bytes) -> _Holder | None:
    try:
        return msgspec.json.decode(content, type=_Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _lives(holder: _Holder, *, alone: bool) -> bool:
    """Whether the process still runs; of one on another host nothing is known, so it does.

    `alone`: the file lock is ours. A live holder on this host would have it, so whoever has its number now is another.
    """
    if holder.host != socket.gethostname():
        return True
    return not alone and holder.pid != os.getpid() and alive(holder.pid)
