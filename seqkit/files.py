"""Bytes at the edges: lines split at LF only, one decoding policy, files published by one rename, hashes.

Text mode is never used for data: Python (like several libraries) also splits lines at characters that are ordinary text
in some languages' corpora, and then line n of the source is no longer line n of the target.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from seqkit.errors import DataError, SeqkitError

__all__ = ["decode", "expand_braces", "lines", "open_binary", "replace_file", "replace_folder", "sha256", "sync"]

READ_SIZE = 1 << 16


def open_binary(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes; `.gz`, `.xz` and `.zst` are decompressed as they are read.

    Raises DataError, naming the file, when it is missing or cannot be opened.
    """
    path = Path(path)
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", _similar_file(path)) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    match path.suffix:
        case ".gz":
            return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
        case ".xz":
            return cast(BinaryIO, lzma.LZMAFile(raw))
        case ".zst":
            return _open_zstandard(raw)
        case _:
            return raw


def _open_zstandard(raw: BinaryIO) -> BinaryIO:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python >= 3.14
    except ImportError:
        import zstandard

        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True))
    return cast(BinaryIO, zstd.ZstdFile(raw))


def _similar_file(path: Path) -> str | None:
    from seqkit.errors import closest

    with contextlib.suppress(OSError):
        near = closest(path.name, (entry.name for entry in path.parent.iterdir()))
        return f"did you mean {path.parent / near}?" if near else None
    return f"the folder {path.parent} does not exist"


def lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a stream without their ends, split at LF only; one CR before the LF belongs to the end.

    A last line without LF counts; a byte order mark is dropped from the first line. `name` stands in the error
    that damaged compressed data raises.
    """
    rest = b""
    first = True
    while True:
        try:
            block = stream.read(READ_SIZE)
        except Exception as error:  # zlib, lzma, zstandard and gzip each have their own classes
            if isinstance(error, (KeyboardInterrupt, SeqkitError)):
                raise
            raise DataError(f"{name} is damaged or not what its name says: {error}") from None
        if not block:
            break
        if first:
            first = False
            if len(block) < 3:
                block += stream.read(3)
            block = block.removeprefix(b"\xef\xbb\xbf")
        pieces = (rest + block).split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            yield piece.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")


def decode(line: bytes) -> tuple[str, bool]:
    """A line as text, and whether it was good UTF-8; bad bytes become U+FFFD, NUL becomes a space."""
    try:
        text, good = line.decode("utf-8"), True
    except UnicodeDecodeError:
        text, good = line.decode("utf-8", errors="replace"), False
    return text.replace("\0", " "), good


def expand_braces(word: str) -> list[str]:
    """`x.{en,de}.gz` -> `x.en.gz`, `x.de.gz`, for callers whose shell did not; other words stay as they are."""
    match = re.search(r"\{([^{}]*,[^{}]*)\}", word)
    if match is None:
        return [word]
    before, after = word[: match.start()], word[match.end() :]
    return [found for choice in match[1].split(",") for found in expand_braces(before + choice + after)]


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: str | Path) -> None:
    """Make a file's or a folder's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str | Path, content: bytes | str) -> None:
    """Write a file so that at every instant either the old or the new content stands there, whole and durable."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_folder(partial: Path, final: Path) -> None:
    """Publish a finished folder under its final name, by rename; an older one there is renamed away first."""
    import shutil

    sync(partial)
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        final.rename(old)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)
