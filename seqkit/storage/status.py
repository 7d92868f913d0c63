"""`status.json`: the state of the last attempt at a run, readable by other processes while it runs and afterwards.

A launcher such as torchrun hides the exit code of the processes that it starts; the status holds it. The status of a
process that is killed stays "running", so `Status.text` checks whether the process exists.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from seqkit.errors import BusyError, Interrupted, SeqkitError, exit_code_of
from seqkit.files import replace_file
from seqkit.system.host import is_alive

__all__ = ["NAME", "Status", "outcome_of", "read", "reported_attempt", "write"]

NAME = "status.json"
LARGEST = 1 << 16  # bytes; a larger file is not a status


class Status(msgspec.Struct, frozen=True):
    """The content of `status.json`; unknown numbers are null."""

    state: Literal["running", "stopped", "done", "failed"]
    t: float  # UTC seconds of its writing
    pid: int
    host: str
    step: int | None = None
    best: float | None = None
    best_step: int | None = None
    attempt: int | None = None
    message: str | None = None
    exit_code: int | None = None

    def text(self) -> str:
        """The status as one line; on this machine a process that should be running is checked to exist."""
        where = "" if self.step is None else f" at step {self.step}"
        if self.state != "running":
            why = "" if self.message is None else f": {self.message.splitlines()[0] if self.message else ''}"
            return f"{self.state}{where}{why}" + ("" if self.exit_code is None else f" (exit code {self.exit_code})")
        process = f"process {self.pid}"
        if self.host != socket.gethostname():
            age = _duration(time.time() - self.t)
            return f"running{where}, {process} on host {self.host}, last heard of {age} ago"
        if is_alive(self.pid, since=self.t):
            return f"running{where}, {process}"
        return f"killed{where}: {process} is gone; the same command goes on from the last checkpoint"


def read(run: Path) -> Status | None:
    """The status of a run folder; None if there is none that can be decoded."""
    with (
        contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError),
        (run / NAME).open("rb") as stream,
    ):
        return msgspec.json.decode(stream.read(LARGEST), type=Status)
    return None


def write(run: Path, content: bytes) -> None:
    """Replace `status.json` by one rename, or overwrite it in place where the disk has no room for a second file.

    Errors are ignored: training continues without a status.
    """
    path = run / NAME
    try:
        replace_file(path, content)
    except OSError:
        with contextlib.suppress(OSError):
            _overwrite(path, content)


def outcome_of(error: BaseException) -> dict[str, object]:
    """State, message and exit code in the status of an attempt that ended with this error."""
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    if isinstance(error, KeyboardInterrupt):
        message = "aborted; the last checkpoint stands"
    elif isinstance(error, SeqkitError):
        message = error.what
    else:
        message = f"{type(error).__name__}: {error}"
    return {"state": "stopped" if stopped else "failed", "message": message, "exit_code": exit_code_of(error)}


@contextlib.contextmanager
def reported_attempt(run: Path) -> Iterator[None]:
    """Around an attempt: write that it runs, and how it ended if the attempt itself does not write that.

    Step and best score of earlier attempts are kept; a run that is done keeps this state unless the attempt fails.
    """
    old = read(run)
    if old is None or old.state != "done":
        _update(run, old, {"state": "running", "message": None, "exit_code": None})
    first = _content(run)
    try:
        yield
    except BusyError:  # another process holds the folder and writes its status
        raise
    except BaseException as error:
        current = read(run)
        if current is None or current.state == "running" or _content(run) == first:
            _update(run, current or old, outcome_of(error))
        raise


def _update(run: Path, old: Status | None, facts: Mapping[str, object]) -> None:
    progress = {} if old is None else {"step": old.step, "best": old.best, "best_step": old.best_step}
    process = {"pid": os.getpid(), "host": socket.gethostname(), "t": round(time.time(), 3)}
    # JSON cannot hold the bytes of an undecodable file name.
    encodable = {
        key: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for key, value in facts.items()
    }
    write(run, msgspec.json.encode({**process, **progress, **encodable}) + b"\n")


def _content(run: Path) -> bytes | None:
    try:
        return (run / NAME).read_bytes()
    except OSError:
        return None


def _overwrite(path: Path, content: bytes) -> None:
    """Write into the existing file: the whole content, or else its old content again."""
    before = path.read_bytes()
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = content if os.pwrite(descriptor, content, 0) == len(content) else before
        if written is before:
            os.pwrite(descriptor, before, 0)
        os.ftruncate(descriptor, len(written))
    finally:
        os.close(descriptor)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
