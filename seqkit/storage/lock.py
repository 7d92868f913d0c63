"""One trainer to a run folder: `run/lock` says who."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import msgspec

from seqkit.errors import BusyError, ResourceError
from seqkit.system.host import alive

__all__ = ["RunLock"]

BEAT = 10.0  # seconds between two renewals of a lock
SILENT = 60.0  # seconds without one after which a holder on another host counts as dead


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    host: str
    started: float  # UTC seconds

    @property
    def elsewhere(self) -> bool:
        return self.host != socket.gethostname()


class RunLock:
    """Holds a run folder for this process while the `with` block runs.

    The system's own file lock decides between processes that start at the same instant, and vanishes with them; the
    written process id tells people who it is, and decides on file systems that have no such locks. Of a process on
    another host neither says whether it lives, so a holder renews its lock (the file's time) for others to see.
    After entering, `warning` says whose lock was taken over, if a dead process left one.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "lock"
        self.warning: str | None = None
        self.taker: str | None = None  # who took the folder over while this process stood still
        self._descriptor: int | None = None
        self._content = b""
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        """Take the folder. Raises BusyError naming the process that has it, ResourceError if nothing can be written."""
        try:
            self._descriptor, alone = self._open()
            content = os.pread(self._descriptor, 4096, 0)
            holder = _parse(content)
            silent = self._silent(self._descriptor) if holder is not None and holder.elsewhere else 0.0
            if holder is not None and _lives(holder, alone=alone, silent=silent):
                raise self._busy(holder, silent)
            if content:
                whose = _dead(holder, silent) if holder else "a process that did not finish writing it"
                self.warning = f"took over {self.path} from {whose}"
            own = _Holder(os.getpid(), socket.gethostname(), time.time())
            self._content = msgspec.json.encode(own) + b"\n"
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._content, 0)
        except OSError as error:
            self._close()
            raise ResourceError(f"cannot lock {self.path.parent}: {error.strerror}", "is it writable?") from error
        except BusyError:
            self._close()
            raise
        self._renewing = threading.Thread(target=self._renew, args=(self._descriptor,), daemon=True)
        self._renewing.start()
        return self

    def check(self) -> None:
        """Raises BusyError if another process has taken the folder over, which then must not be written to."""
        if self.taker is not None:
            raise BusyError(
                f"{self.taker} took {self.path.parent} over while this process stood still",
                f"nothing more is written here; a lock is anybody's after {SILENT:.0f} s without a sign of life",
            )

    def _renew(self, descriptor: int) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # seen again at the next beat; a lock removed by hand is nobody's
                self.taker = self._other()
                if self.taker is not None:
                    return
                os.utime(descriptor)

    def _other(self) -> str | None:
        """Whose the lock is, if it is not ours any more."""
        content = self.path.read_bytes()
        if content == self._content:
            return None
        holder = _parse(content)
        return f"process {holder.pid} on host {holder.host}" if holder else "another process"

    def _silent(self, descriptor: int) -> float:
        """Seconds since the lock was renewed, by the clock of its file system: hosts' own may differ."""
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:
            return abs(os.fstat(probe.fileno()).st_mtime - os.fstat(descriptor).st_mtime)

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

    def _busy(self, holder: _Holder | None, silent: float | None = None) -> BusyError:
        whose = f"process {holder.pid} on host {holder.host}" if holder else "another process"
        hint = f"wait for it, train elsewhere with --out, or delete {self.path} if that process is no trainer any more"
        if holder is not None and silent is not None and holder.elsewhere:
            whose += f", which gave a sign of life {silent:.0f} s ago"
            hint = f"wait for it, or train elsewhere with --out; if it is dead, try again in {SILENT - silent:.0f} s"
        return BusyError(f"{self.path.parent} is in use by {whose}", hint)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()  # it must not touch a descriptor that is closed
        with contextlib.suppress(OSError):
            if self._descriptor is not None and self._other() is None:
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


def _lives(holder: _Holder, *, alone: bool, silent: float) -> bool:
    """Whether the process still runs: one on another host has given a sign of life.

    `alone`: the file lock is ours. A live holder on this host would have it, so whoever has its number now is another.
    """
    if holder.elsewhere:
        return silent < SILENT
    return not alone and holder.pid != os.getpid() and alive(holder.pid)


def _dead(holder: _Holder, silent: float) -> str:
    if not holder.elsewhere:
        return f"process {holder.pid}, which is dead"
    return f"process {holder.pid} on host {holder.host}, which gave no sign of life for {silent:.0f} s"
