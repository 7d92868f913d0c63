"""A lock on a run folder, `run/lock`, so that only one process trains in it."""

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
from seqkit.system.host import is_alive

__all__ = ["RunLock"]

HEARTBEAT = 10.0  # seconds between two renewals of a lock
EXPIRY = 60.0  # seconds without a renewal after which a holder on another host counts as dead


class _Holder(msgspec.Struct, frozen=True):
    pid: int
    host: str
    started: float  # UTC seconds

    @property
    def remote(self) -> bool:
        return self.host != socket.gethostname()


class RunLock:
    """Holds a run folder for this process while the `with` block runs.

    The file lock of the operating system (flock) decides between processes that start at the same instant, and ends
    with its process; the process id in the file names the holder in messages, and decides on file systems without file
    locks. Neither says whether a process on another host is alive, so a holder renews its lock by the file's time.
    After entering, `warning` says whose lock was taken over, if a dead process left one.
    """

    def __init__(self, run: Path, *, heartbeat: float = HEARTBEAT) -> None:
        """`heartbeat`: seconds between two renewals."""
        self.heartbeat = heartbeat
        self.path = run / "lock"
        self.warning: str | None = None
        self.successor: str | None = None  # the process that took the folder over while this one was suspended
        self._descriptor: int | None = None
        self._content = b""
        self._released = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        """Take the lock. Raises BusyError naming the process that has it, ResourceError if nothing can be written."""
        try:
            self._descriptor, locked = self._open()
            content = os.pread(self._descriptor, 4096, 0)
            holder = _parse(content)
            silence = self._silence(self._descriptor) if holder is not None and holder.remote else 0.0
            if holder is not None and _is_alive(holder, locked=locked, silence=silence):
                raise self._busy(holder, silence)
            if content:
                former = _dead(holder, silence) if holder else "a process that did not finish writing it"
                self.warning = f"took over {self.path} from {former}"
            this = _Holder(os.getpid(), socket.gethostname(), time.time())
            self._content = msgspec.json.encode(this) + b"\n"
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._content, 0)
        except OSError as error:
            self._close()
            raise ResourceError(f"cannot lock {self.path.parent}: {error.strerror}", "is it writable?") from error
        except BusyError:
            self._close()
            raise
        self._heartbeat = threading.Thread(target=self._renew, args=(self._descriptor,), daemon=True)
        self._heartbeat.start()
        return self

    def check(self) -> None:
        """Raises BusyError if another process has taken the folder over, which then must not be written to."""
        if self.successor is not None:
            raise BusyError(
                f"{self.successor} took {self.path.parent} over while this process stood still",
                f"nothing more is written here; a lock is anybody's after {EXPIRY:.0f} s without a sign of life",
            )

    def _renew(self, descriptor: int) -> None:
        while not self._released.wait(self.heartbeat):
            with contextlib.suppress(OSError):  # tried again at the next heartbeat; a removed lock has no holder
                self.successor = self._other_holder()
                if self.successor is not None:
                    return
                os.utime(descriptor)

    def _other_holder(self) -> str | None:
        """The holder of the lock if it is another process."""
        content = self.path.read_bytes()
        if content == self._content:
            return None
        holder = _parse(content)
        return f"process {holder.pid} on host {holder.host}" if holder else "another process"

    def _silence(self, descriptor: int) -> float:
        """Seconds since the lock was renewed, by the clock of its file system: the clocks of hosts may differ."""
        with tempfile.TemporaryFile(dir=self.path.parent) as probe:
            return abs(os.fstat(probe.fileno()).st_mtime - os.fstat(descriptor).st_mtime)

    def _open(self) -> tuple[int, bool]:
        """The descriptor of the open file, and whether this process has the file lock on it."""
        while True:
            locked = True
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _parse(os.pread(descriptor, 4096, 0))
                os.close(descriptor)
                raise self._busy(holder) from None
            except OSError:
                locked = False  # a file system without file locks: the process id decides
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.path.stat()):
                    return descriptor, locked
            os.close(descriptor)  # its holder removed the file between `open` and `flock`

    def _busy(self, holder: _Holder | None, silence: float | None = None) -> BusyError:
        process = f"process {holder.pid} on host {holder.host}" if holder else "another process"
        hint = f"wait for it, train elsewhere with --out, or delete {self.path} if that process is no trainer any more"
        if holder is not None and silence is not None and holder.remote:
            process += f", which gave a sign of life {silence:.0f} s ago"
            hint = f"wait for it, or train elsewhere with --out; if it is dead, try again in {EXPIRY - silence:.0f} s"
        return BusyError(f"{self.path.parent} is in use by {process}", hint)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._released.set()
        if self._heartbeat is not None:
            self._heartbeat.join()  # it must not use the descriptor after it is closed
        with contextlib.suppress(OSError):
            if self._descriptor is not None and self._other_holder() is None:
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


def _is_alive(holder: _Holder, *, locked: bool, silence: float) -> bool:
    """Whether the holder still runs; on another host, whether it renewed its lock within `EXPIRY` seconds.

    `locked`: this process has the file lock. A live holder on this host would have it, so a process with the holder's
    id is then another one.
    """
    if holder.remote:
        return silence < EXPIRY
    return not locked and holder.pid != os.getpid() and is_alive(holder.pid)


def _dead(holder: _Holder, silence: float) -> str:
    if not holder.remote:
        return f"process {holder.pid}, which is dead"
    return f"process {holder.pid} on host {holder.host}, which gave no sign of life for {silence:.0f} s"
