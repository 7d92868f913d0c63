"""Input and output of the commands that are filters: lines are read as they arrive, files appear when complete."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

import click

from seqkit.errors import ConfigError, ResourceError
from seqkit.files import lines, open_binary, replacing

__all__ = ["LineBlocks", "input_stream", "output_stream", "resumable_output", "warn"]

BLOCK = 2000  # the most lines of a block


class LineBlocks:
    """The lines of a stream in blocks: at least one line, and all others that have arrived, at most `BLOCK`.

    A thread reads ahead from the start: a file gives full blocks, and a program that waits for each answer gets it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """`name` is for the DataError of a line that cannot be read, which is raised after the lines before it."""
        self._slots = threading.Semaphore(BLOCK)
        self._queue: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(lines(stream, name),), name="reader", daemon=True).start()

    def _read(self, source: Iterable[bytes]) -> None:
        end: BaseException | None = None
        try:
            for line in source:
                self._slots.acquire()
                self._queue.put(line)
        except BaseException as error:  # the other thread raises it, and must not wait for ever
            end = error
        self._queue.put(end)

    def __iter__(self) -> Iterator[list[bytes]]:
        while True:
            first = self._queue.get()
            block = [first, *(self._queue.get() for _ in range(min(self._queue.qsize(), BLOCK - 1)))]
            arrived = [line for line in block if isinstance(line, bytes)]
            for _ in arrived:
                self._slots.release()
            if arrived:
                yield arrived
            if len(arrived) < len(block):
                end = block[-1]
                if isinstance(end, BaseException):
                    raise end
                return


@contextlib.contextmanager
def input_stream(word: str) -> Iterator[tuple[BinaryIO, str]]:
    """The input that a word names, `-` for standard input, and its name for errors."""
    if word != "-":
        with open_binary(word) as stream:
            yield stream, word
        return
    standard = sys.stdin.buffer
    # Unbuffered: the reading thread may still wait when the program exits, and would hold the lock of a buffer.
    raw: object = standard.raw if isinstance(standard, io.BufferedReader) else standard
    yield raw, "standard input"  # type: ignore[misc]  # FileIO reads bytes like any BinaryIO


@contextlib.contextmanager
def output_stream(word: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """The output that a word names, `-` for standard output; a file appears when it is complete.

    Raises ConfigError for a file that exists unless `overwrite`, ResourceError for one that cannot be written.
    """
    path = Path(word)
    if word == "-":
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():  # a device or a named pipe cannot be replaced by rename
        try:
            device = path.open("wb")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}", "choose another output") from None
        with device:
            yield device
    elif path.exists() and not overwrite:
        raise ConfigError(f"{path} exists", "--overwrite replaces it")
    else:
        try:
            with replacing(path) as stream:
                yield stream
        except OSError as error:
            raise ResourceError(f"cannot write {path}: {error.strerror}", "choose another output") from None


@contextlib.contextmanager
def resumable_output(
    word: str, *, overwrite: bool, resume: bool, complete: Callable[[BinaryIO], tuple[int, int]]
) -> Iterator[tuple[BinaryIO, int]]:
    """An output like `output_stream` that stays as FILE.part after an interruption, and the number of lines in it.

    With `resume` it keeps what `complete` gives for the partial file: a number of input lines, and their bytes.
    """
    path = Path(word)
    if word == "-" or (path.exists() and not path.is_file()):
        if resume:
            raise ConfigError("--resume needs an output file", "name it with -o")
        with output_stream(word, overwrite=overwrite) as stream:
            yield stream, 0
        return
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists", "it is complete; --overwrite replaces it")
    partial = path.with_name(f"{path.name}.part")
    done = 0
    try:
        with partial.open("r+b" if resume and partial.exists() else "w+b") as stream:
            if resume:
                done, size = complete(stream)
                stream.truncate(size)
                stream.seek(size)
            yield stream, done
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", f"{partial} has what is done") from None


def warn(what: str) -> None:
    """Print a warning to stderr."""
    click.echo(f"seqkit: warning: {what}", err=True)
