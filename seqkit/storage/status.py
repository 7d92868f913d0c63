"""`status.json`: how the last attempt at a run goes or went, for whoever did not see it end.

A launcher such as torchrun hides the exit code of what it starts; the true one stands here. A process that is killed
cannot say so: its status goes on to say that it runs, and `Status.text` looks whether it does.
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
from seqkit.system.host import alive

__all__ = ["NAME", "Status", "ending_of", "read", "reported_attempt", "write"]

NAME = "status.json"
LARGEST = 1 << 16  # bytes; more is no status


class Status(msgspec.Struct, frozen=True):
    """What `status.json` says; numbers are null where they are not known."""

    state: Literal["running", "stopped", "done", "failed"]
    t: float  # UTC seconds at which it was written
    pid: int
    host: str
    step: int | None = None
    best: float | None = None
    best_step: int | None = None
    attempt: int | None = None
    message: str | None = None
    exit_code: int | None = None

    def text(self) -> str:
        """One line for people; a run that says that it runs is looked for, where it is this machine's."""
        where = "" if self.step is None else f" at step {self.step}"
        if self.state != "running":
            why = "" if self.message is None else f": {self.message.splitlines()[0] if self.message else ''}"
            return f"{self.state}{where}{why}" + ("" if self.exit_code is None else f" (exit code {self.exit_code})")
        whose = f"process {self.pid}"
        if self.host != socket.gethostname():
            return f"running{where}, {whose} on host {self.host}, last heard of {_ago(time.time() - self.t)} ago"
        if alive(self.pid, since=self.t):
            return f"running{where}, {whose}"
        return f"killed{where}: {whose} is gone; the same command goes on from the last checkpoint"


def read(run: Path) -> Status | None:
    """What the run folder says; None if it says nothing that can be understood."""
    with (
        contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError),
        (run / NAME).open("rb") as stream,
    ):
        return msgspec.json.decode(stream.read(LARGEST), type=Status)
    return None


def write(run: Path, content: bytes) -> None:
    """Replace `status.json` by one rename; a disk that has no room for a second file gets it in the first one's place.

    Cannot raise: training does not end for want of a status.
    """
    path = run / NAME
    try:
        replace_file(path, content)
    except OSError:
        with contextlib.suppress(OSError):
            _overwrite(path, content)


def ending_of(error: BaseException) -> dict[str, object]:
    """What a status says of an attempt that this error ended."""
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
    """Around an attempt: tell that it began, and how it ended if it never came as far as telling that itself.

    What was reached before is kept; a run that is done stays so unless it is refused.
    """
    old = read(run)
    if old is None or old.state != "done":
        _tell(run, old, {"state": "running", "message": None, "exit_code": None})
    began = _content(run)
    try:
        yield
    except BusyError:  # the folder is another's now, and what is told in it too
        raise
    except BaseException as error:
        now = read(run)
        if now is None or now.state == "running" or _content(run) == began:
            _tell(run, now or old, ending_of(error))
        raise


def _tell(run: Path, old: Status | None, facts: Mapping[str, object]) -> None:
    reached = {} if old is None else {"step": old.step, "best": old.best, "best_step": old.best_step}
    own = {"pid": os.getpid(), "host": socket.gethostname(), "t": round(time.time(), 3)}
    # JSON has no place for the bytes of an undecodable file name.
    told = {
        key: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for key, value in facts.items()
    }
    write(run, msgspec.json.encode({**own, **reached, **told}) + b"\n")


def _content(run: Path) -> bytes | None:
    try:
        return (run / NAME).read_bytes()
    except OSError:
        return None


def _overwrite(path: Path, content: bytes) -> None:
    """Write into the file that is there; all of it or nothing."""
    before = path.read_bytes()
    descriptor = os.open(path, os.O_WRONLY)
    try:
        whole = content if os.pwrite(descriptor, content, 0) == len(content) else before
        if whole is before:
            os.pwrite(descriptor, before, 0)
        os.ftruncate(descriptor, len(whole))
    finally:
        os.close(descriptor)


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
