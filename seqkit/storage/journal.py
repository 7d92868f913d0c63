"""The files in which a run reports on itself: `log.jsonl`, `status.json`, `samples.tsv`, `train.log`.

The event log is the authoritative record of a run and append-only: one `write` a line, so that a crash can truncate
only the last line, which the next attempt removes.
"""

from __future__ import annotations

import contextlib
import numbers
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from seqkit.errors import ResourceError
from seqkit.storage.status import write

__all__ = ["Journal"]

VERSION = 1
TAIL = 1 << 20  # bytes at the end of an existing log in which the last attempt is looked for
STATUS_SECONDS = 5.0
ONE_LINE = str.maketrans("\t\n\r", "   ")
SAMPLES_HEADER = "step\tsource\treference\thypothesis\n"


class _Line(msgspec.Struct, frozen=True):
    attempt: int


class Journal:
    """The writer of a run's log files; `attempt` counts the starts of the run.

    `clock` gives UTC seconds. A full disk must not end training, so a line that cannot be written is dropped and
    counted in `lost`; the next event that is written gives that count.
    """

    def __init__(self, run: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or create the log in `run` and repair its last line. Raises ResourceError if it cannot be opened."""
        self.run = run
        self._clock = clock
        self._status_written = -float("inf")
        self.lost = 0
        try:
            self.attempt = _repair(run / "log.jsonl") + 1
            self._descriptor = os.open(run / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise ResourceError(f"cannot write {run / 'log.jsonl'}: {error.strerror}", "is it writable?") from error

    def write(self, event: str, fields: Mapping[str, object]) -> None:
        """Append one event; numbers that are not finite become null, objects unknown to JSON their text."""
        header = {"v": VERSION, "t": round(self._clock(), 3), "attempt": self.attempt, "event": event}
        line = {**header, **fields, **header}  # the header stands first and cannot be overwritten
        if self.lost:
            line["lost"] = self.lost
        content = _json(line) + b"\n"
        try:
            written = os.write(self._descriptor, content)
            if written < len(content):  # the next line would be appended to an incomplete one
                os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
        except OSError:
            written = 0
        self.lost = 0 if written == len(content) else self.lost + 1

    def status(self, facts: Mapping[str, object], *, force: bool = False) -> None:
        """Replace `status.json` by these facts with process and host; at most every five seconds unless forced."""
        now = self._clock()
        if not force and abs(now - self._status_written) < STATUS_SECONDS:
            return
        self._status_written = now
        process = {"pid": os.getpid(), "host": socket.gethostname(), "t": round(now, 3), "attempt": self.attempt}
        write(self.run, _json({**process, **facts}) + b"\n")

    def samples(self, step: int, rows: Sequence[tuple[str, str, str]]) -> None:
        """Append (source, reference, hypothesis) rows to `samples.tsv`; tabs and line breaks in them become spaces."""
        cells = [[str(step), *(text.translate(ONE_LINE) for text in row)] for row in rows]
        header = "" if (self.run / "samples.tsv").exists() else SAMPLES_HEADER
        self._append("samples.tsv", header + "".join("\t".join(row) + "\n" for row in cells))

    def log(self, text: str) -> None:
        """Append the UTC time and a text to `train.log`; the text may have several lines, as tracebacks do."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._clock()))
        self._append("train.log", f"{moment} {text.rstrip()}\n")

    def _append(self, name: str, text: str) -> None:
        with contextlib.suppress(OSError), (self.run / name).open("ab") as stream:
            stream.write(text.encode(errors="replace"))

    def close(self) -> None:
        """Sync the log to the disk and close it; nothing can be written afterwards."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:  # for example an undecodable file name
        return msgspec.json.encode(_printable(value), enc_hook=_plain)


def _plain(value: object) -> object:
    """A JSON value for what JSON cannot hold: scalars of numerical libraries, paths, any other object's text."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return str(value).encode(errors="replace").decode()


def _printable(value: object) -> object:
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case Mapping():
            return {_printable(key): _printable(part) for key, part in value.items()}
        case list() | tuple():
            return [_printable(part) for part in value]
        case _:
            return value


def _repair(path: Path) -> int:
    """Remove an incomplete last line of a log, or add its missing line end; the last attempt in it, 0 if none."""
    if not path.exists():
        return 0
    with path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        start = stream.seek(max(0, size - TAIL))
        *lines, last = stream.read().split(b"\n")
        if last and _attempt(last) is not None:
            stream.write(b"\n")
            lines.append(last)
        elif last:
            stream.truncate(start + sum(len(line) + 1 for line in lines))
    return next((attempt for line in reversed(lines) if (attempt := _attempt(line)) is not None), 0)


def _attempt(line: bytes) -> int | None:
    try:
        return msgspec.json.decode(line, type=_Line).attempt
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
