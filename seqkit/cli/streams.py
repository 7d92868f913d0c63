"""Lines in and out of the commands that are filters: read as they arrive, published when they are complete."""

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

__all__ = ["LineBlocks", "opened", "published", "resumable", "warn"]

BLOCK = 2000  # lines that are handled together, if so many are there


class LineBlocks:
    """The lines of a stream as lists of what has arrived, at most `BLOCK` at a time, never waiting for more than one.

    A thread reads ahead, from now on: a file gets full batches, a program that waits for each answer gets it at once.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """`name` stands in the DataError for what cannot be read, which comes after the lines before it."""
        self._room = threading.Semaphore(BLOCK)
        self._waiting: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(lines(stream, name),), name="reader", daemon=True).start()

    def _read(self, source: Iterable[bytes]) -> None:
        end: BaseException | None = None
        try:
            for line in source:
                self._room.acquire()
                self._waiting.put(line)
        except BaseException as error:  # whatever it is, the other thread must not wait for ever
            end = error
        self._waiting.put(end)

    def __iter__(self) -> Iterator[list[bytes]]:
        while True:
            first = self._waiting.get()
            block = [first, *(self._waiting.get() for _ in range(min(self._waiting.qsize(), BLOCK - 1)))]
            ready = [line for line in block if isinstance(line, bytes)]
            for _ in ready:
                self._room.release()
            if ready:
                yield ready
            if len(ready) < len(block):
                end = block[-1]
                if isinstance(end, BaseException):
                    raise end
                return


@contextlib.contextmanager
def opened(word: str) -> Iterator[tuple[BinaryIO, str]]:
    """The input that a word names, `-` for standard input, and what to call it in errors."""
    if word != "-":
        with open_binary(word) as stream:
            yield stream, word
        return
    standard = sys.stdin.buffer
    # The reading thread may still wait for input when the program ends, and must then hold no lock of a buffer.
    raw: object = standard.raw if isinstance(standard, io.BufferedReader) else standard
    yield raw, "standard input"  # type: ignore[misc]  # FileIO reads bytes like any BinaryIO


@contextlib.contextmanager
def published(word: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """The output that a word names, `-` for standard output; a file takes its place when everything is in it.

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
def resumable(
    word: str, *, overwrite: bool, resume: bool, complete: Callable[[BinaryIO], tuple[int, int]]
) -> Iterator[tuple[BinaryIO, int]]:
    """An output like that of `published` whose unfinished part stays as FILE.part, and how many lines it already has.

    With `resume` what is there is kept as far as `complete` says: so many lines of the input, in so many bytes.
    """
    path = Path(word)
    if word == "-" or (path.exists() and not path.is_file()):
        if resume:
            raise ConfigError("--resume needs an output file", "name it with -o")
        with published(word, overwrite=overwrite) as stream:
            yield stream, 0
        return
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists", "it is complete; --overwrite replaces it")
    partial = path.with_name(f"{path.name}.part")
    done = 0
    try:
        with partial.open("r+b" if resume and partial.exists() else "wb") as stream:
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
    """Tell a person of something that is odd."""
    click.echo(f"seqkit: warning: {what}", err=True)
