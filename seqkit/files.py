"""Reading lines of text files, expanding file names, and replacing files and folders atomically.

Lines are split at LF only, and text mode is not used for data: Python (like several libraries) also splits lines at
characters that are ordinary text in some corpora, and then line n of the source is no longer line n of the target.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import lzma
import math
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from seqkit.errors import ConfigError, DataError, SeqkitError, closest

__all__ = [
    "decode",
    "expand_braces",
    "fault_point",
    "lines",
    "open_binary",
    "read_plain",
    "read_start",
    "recover",
    "remove",
    "replace_file",
    "replace_folder",
    "replacing",
    "sha256",
    "sync",
]

LIST = r"\{([^{}]*,[^{}]*)\}"  # as in x.{en,de}
READ_SIZE = 1 << 16
MOST_CHOICES = 1000  # words to which a word with braces may expand
LONGEST_LINE = 1 << 24  # bytes; a longer line is no text, and a small compressed file could fill the memory with one


def open_binary(path: str | Path) -> BinaryIO:
    """Open a file for reading bytes; `.gz`, `.xz` and `.zst` are decompressed as they are read.

    Raises DataError, naming the file, when it is missing or cannot be opened.
    """
    path = Path(path)
    try:
        match path.suffix:
            case ".gz":
                return cast(BinaryIO, gzip.GzipFile(path, "rb"))
            case ".xz":
                return cast(BinaryIO, lzma.LZMAFile(path, "rb"))
            case ".zst":
                return _open_zstandard(path)
            case _:
                return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", _similar_file(path)) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a recipe can contain a name that is impossible for a file
        raise DataError(f"cannot read {str(path)!r}: it has a NUL character in its name") from None


def read_start(path: str | Path, limit: int) -> bytes:
    """The first `limit` bytes of a file, compressed or not. Raises DataError as `open_binary` and `lines` do."""
    content = b""
    with open_binary(path) as stream:
        while len(content) < limit and (block := _read(stream, str(path))):
            content += block
    return content[:limit]


def read_plain(path: Path, *, limit: int) -> bytes:
    """The content of a plain file of at most `limit` bytes, in a folder from an untrusted source.

    Raises OSError for a larger file, a link (it may lead out of the folder), a pipe (it may never end) and a device (it
    has no size).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a link, not a plain file", str(path)) from None
        raise
    except ValueError:
        raise OSError(errno.EINVAL, "it has a NUL character in its name", str(path)) from None
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it is larger than {limit} bytes", str(path))
        return stream.read(limit)


def _open_zstandard(path: Path) -> BinaryIO:
    if sys.version_info >= (3, 14):
        from compression import zstd

        return cast(BinaryIO, zstd.ZstdFile(path, "rb"))
    return cast(BinaryIO, io.BufferedReader(_Zstandard(path.open("rb")), READ_SIZE))


class _Zstandard(io.RawIOBase):
    """Reads a `.zst` file frame by frame; the library's reader does not detect a file that is truncated in a frame."""

    BLOCK = 1 << 10  # bytes; small, as the data may expand 30,000-fold, which bounds the memory for a zip bomb

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw = raw
        self._frame: Any = None  # zstandard's decompressor of the current frame
        self._unread = b""  # compressed bytes after the end of a frame
        self._ready = memoryview(b"")  # decompressed bytes that are not yet read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._unread or self._raw.read(self.BLOCK)
            self._unread = b""
            if not block:
                if self._frame is not None:
                    raise EOFError("it ends inside a compressed frame")
                return 0
            self._decompress(block)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _decompress(self, block: bytes) -> None:
        import zstandard

        if self._frame is None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(self._frame.decompress(block))
        if self._frame.eof:
            self._unread, self._frame = self._frame.unused_data, None

    def close(self) -> None:
        self._raw.close()
        super().close()


def _similar_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    with contextlib.suppress(OSError):
        suggestion = closest(path.name, (entry.name for entry in path.parent.iterdir()))
        return f"did you mean {path.parent / suggestion}?" if suggestion else None
    return None


def lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a stream without their ends, which are LF or CR LF.

    The last line needs no LF; a byte order mark is removed from the first line. A line is yielded as soon as it is
    read, also from a pipe that stays open. Raises DataError, naming `name`, for damaged compressed data and for lines
    longer than 16 MiB.
    """
    for count, line in enumerate(_pieces(stream, name), start=1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name} line {count} is longer than {LONGEST_LINE >> 20} MiB",
                "is it a text file, one sentence a line?",
            )
        yield line.removesuffix(b"\r")


def _pieces(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """The pieces of a stream between LFs; a line above `LONGEST_LINE` is yielded before its LF is read."""
    rest: list[bytes] = []  # the beginning of a line whose LF is not yet read
    size = 0  # bytes of it
    prefix = b"\xef\xbb\xbf"
    while block := _read(stream, name):
        first, *following = block.split(b"\n")
        rest.append(first)
        size += len(first)
        if following or size > LONGEST_LINE:
            yield b"".join(rest).removeprefix(prefix)
            yield from following[:-1]
            prefix = b""
            rest = following[-1:]
            size = len(following[-1]) if following else 0
    if last := b"".join(rest).removeprefix(prefix):
        yield last


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        # The `read` of a pipe waits for all requested bytes; `read1` returns those that are available.
        return stream.read1(READ_SIZE) if isinstance(stream, io.BufferedIOBase) else stream.read(READ_SIZE)
    except SeqkitError:
        raise
    except Exception as error:  # zlib, lzma, zstandard and gzip have different classes of errors
        raise DataError(f"{name} is damaged or not what its name says: {error}", "fetch or compress it again") from None


def decode(line: bytes) -> tuple[str, bool]:
    """A line as text, and whether it is valid UTF-8; invalid bytes become U+FFFD, NUL becomes a space."""
    try:
        text, valid = line.decode("utf-8"), True
    except UnicodeDecodeError:
        text, valid = line.decode("utf-8", errors="replace"), False
    return text.replace("\0", " "), valid


def expand_braces(word: str) -> list[str]:
    """`x.{en,de}.gz` -> `x.en.gz`, `x.de.gz`, as a shell expands braces; other words stay as they are.

    Several lists in a word give all combinations; nested lists are not supported. Raises ConfigError for more than
    1000 words.
    """
    lists = re.findall(LIST, word)
    if math.prod(1 + choices.count(",") for choices in lists) > MOST_CHOICES:
        raise ConfigError(f"{word[:80]} stands for more than {MOST_CHOICES} files", "name the files one by one")
    match = re.search(LIST, word)
    if match is None:
        return [word]
    before, after = word[: match.start()], word[match.end() :]
    return [expanded for choice in match[1].split(",") for expanded in expand_braces(before + choice + after)]


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: str | Path) -> None:
    """Sync the content of a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: str | Path, content: bytes | str) -> None:
    """Replace the content of a file atomically: at every instant it is the complete old or the complete new one."""
    with replacing(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A stream whose content replaces the file, as by `replace_file`, unless the body raises an error.

    During the body only the owner may read it; then it gets the mode of the file that it replaces, or of a new file.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    partial.unlink(missing_ok=True)  # left by a process with this id that died in this function
    # Other users may be able to write in the folder and guess the name: O_EXCL does not follow a link of theirs.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as stream:
            mode = stat.S_IMODE((path.stat() if path.is_file() else os.fstat(descriptor)).st_mode)
            _permit(descriptor, 0o600)
            yield stream
            _permit(descriptor, mode)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def _permit(descriptor: int, mode: int) -> None:
    with contextlib.suppress(OSError):  # some file systems have no file modes
        os.fchmod(descriptor, mode)


def replace_folder(partial: Path, final: Path) -> None:
    """Rename a finished folder to its final name; an older folder of that name is renamed first and then deleted."""
    sync(partial)
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    replaces = final.exists()
    if replaces:
        shutil.rmtree(old, ignore_errors=True)  # left by a process with this id that died in this function
        final.rename(old)
        fault_point("between-renames")
    try:
        partial.rename(final)
    except OSError:
        if replaces:
            old.rename(final)
        raise
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path, names: str) -> None:
    """Clear up after a process that died in `replace_file` or `replace_folder`; no other process may be writing.

    A folder that was renamed and not yet replaced gets its name back; all other temporary files and folders are
    deleted. `names`: a pattern of the final names; temporary files of other names are not touched.
    """
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        match = re.fullmatch(rf"\.({names})\.\d+\.(old|tmp)", entry.name)
        if match and match[2] == "old" and not (folder / match[1]).exists():
            with contextlib.suppress(OSError):
                entry.rename(folder / match[1])
        elif match:
            remove(entry)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it exists and can be deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def fault_point(name: str) -> None:
    """Kill this process if the environment variable SEQKIT_FAULT is `name`, so that tests can simulate a crash."""
    if os.environ.get("SEQKIT_FAULT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
