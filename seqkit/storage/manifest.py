"""Folders that are complete or absent: written beside their place, sealed by a manifest, published by one rename.

    step-00001200.tmp/   files -> fsync -> manifest.json (name, size, SHA-256 of each) -> fsync
    step-00001200/       by rename -> fsync of the parent

A reader accepts a folder only if its manifest verifies. Libraries for weights neither detect a flipped bit nor sync
what they write, so both are done here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkit.errors import ModelError, ResourceError
from seqkit.files import fault_point, read_plain, remove, replace_folder, sha256, sync

__all__ = [
    "FORMAT",
    "Manifest",
    "NewerFormatError",
    "check",
    "format_size",
    "publish",
    "read_tensors",
    "write_tensors",
]

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 1 << 20  # bytes; a larger file is not a manifest of seqkit
HEADER_LIMIT = 1 << 23  # bytes, about a hundred for each tensor of a file


class NewerFormatError(ModelError):
    """A folder that a newer seqkit wrote: it is not damaged and must not be skipped like a damaged one."""


class _Entry(msgspec.Struct, frozen=True):
    name: str  # relative to the folder, "/" between parts
    size: int  # bytes
    sha256: str


class _Header(msgspec.Struct, frozen=True):
    format: int
    seqkit: str


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a sealed folder: the version that wrote it, its files, and facts that the writer added."""

    format: int
    seqkit: str
    files: list[_Entry]
    facts: dict[str, Any]

    @property
    def names(self) -> frozenset[str]:
        """The names of the sealed files, relative to the folder."""
        return frozenset(entry.name for entry in self.files)


@contextlib.contextmanager
def publish(final: Path, *, facts: Mapping[str, object], needed: int, reserve: int = 0) -> Iterator[Path]:
    """Yield an empty folder beside `final`; when the body is done, seal it and rename it to `final`.

    `needed` is what the body will write and `reserve` what must stay free, in bytes. After any error the partial folder
    is removed and an earlier folder at `final` stays. Raises ResourceError when the folder cannot be written.
    """
    partial = final.with_name(f"{final.name}.tmp")
    try:
        remove(partial)
        if not final.parent.is_dir():
            final.parent.mkdir(parents=True)
            sync(final.parent.parent)
        partial.mkdir()
        free = shutil.disk_usage(partial).free
        if free < needed + reserve:
            raise _cannot_save(final, "the disk is full", needed + reserve)
        fault_point("before-write")
        yield partial
        fault_point("before-manifest")
        _seal(partial, facts)
        fault_point("before-rename")
        replace_folder(partial, final)
        fault_point("after-rename")
    except (OSError, SafetensorError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise _cannot_save(final, reason, needed + reserve) from error
    finally:
        remove(partial)


def _cannot_save(final: Path, reason: str, needed: int) -> ResourceError:
    parent = next(folder for folder in final.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    what = f"cannot save {final}: {reason} ({format_size(needed)} needed, {format_size(free)} free)"
    return ResourceError(what, "free some space or lift the quota; what was saved before is untouched")


def format_size(count: int) -> str:
    """A number of bytes in decimal units: `310 MB`, `12 kB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}" if count < 100 * factor else f"{count / factor:.0f} {unit}"
    return f"{count} bytes"


def _seal(folder: Path, facts: Mapping[str, object]) -> None:
    """Sync everything in the folder to the disk, then write the manifest, last of all."""
    entries = []
    for path in sorted(folder.rglob("*")):
        sync(path)
        if path.is_file():
            entries.append(_Entry(path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)))
    manifest = Manifest(FORMAT, _version(), entries, dict(facts))
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    sync(folder / MANIFEST)


def _version() -> str:
    try:
        return importlib.metadata.version("seqkit")
    except importlib.metadata.PackageNotFoundError:  # used from a source tree that is not installed
        return "unknown"


def check(folder: Path) -> Manifest:
    """The manifest of a folder, after every listed file is verified by its size and SHA-256.

    Raises NewerFormatError if a newer seqkit wrote it, ModelError if anything is missing or damaged, or if a name
    leads out of the folder.
    """
    manifest = _read_manifest(folder)
    for entry in manifest.files:
        shown = f"{folder.name}/{entry.name}"
        path = _inside(folder, entry.name)
        try:
            status = path.lstat()
        except OSError:
            raise _damaged(f"{shown} is missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(f"{shown} is not a plain file")
        if status.st_size != entry.size:
            raise _damaged(f"{shown} is damaged (size: {status.st_size} instead of {entry.size} bytes)")
        try:
            matches = sha256(path) == entry.sha256
        except OSError as error:
            raise _damaged(f"cannot read {shown}: {error.strerror}") from None
        if not matches:
            raise _damaged(f"{shown} is damaged (checksum)")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    shown = f"{folder.name}/{MANIFEST}"
    path = folder / MANIFEST
    if not folder.is_dir():
        raise _damaged(f"{folder.name} is not a folder")
    try:
        content = read_plain(path, limit=MANIFEST_LIMIT)
    except FileNotFoundError:
        raise _damaged(f"{shown} is missing") from None
    except OSError as error:
        raise _damaged(f"cannot read {shown}: {error.strerror}") from None
    try:
        header = msgspec.json.decode(content, type=_Header)
        if header.format > FORMAT:
            reader = f"this is {_version()} (format {FORMAT})"
            writer = " ".join(header.seqkit.split())[:40]
            what = f"{folder.name} was written by seqkit {writer} (format {header.format}), {reader}"
            raise NewerFormatError(what, "pip install -U seqkit")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _damaged(f"{shown} is damaged") from None


def _damaged(what: str) -> ModelError:
    return ModelError(what, "put a good copy of the folder back, or use another one")


def _inside(folder: Path, name: str) -> Path:
    """The path of a file that a manifest names; ModelError if its name or a link leads out of the folder."""
    invalid = len(name) > 255 or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(name.split("/"))
    if invalid or (folder / name).resolve() != folder.resolve() / name:
        raise _damaged(f"{folder.name}/{MANIFEST} names a file outside of its folder: {name[:80]!r}")
    return folder / name


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: dict[str, str] | None = None) -> None:
    """Write tensors from any device as safetensors, with the file mode that the umask gives to new files."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)  # the library sets 0600
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata)
    path.chmod(mode)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU. Raises ModelError if it cannot be read as one."""
    try:
        with path.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
        if header > HEADER_LIMIT:  # the library takes minutes and gigabytes for a million names
            raise ModelError(f"cannot read {path}: its header claims {header} bytes", "it is no file of weights")
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:  # the last three are torch's
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"cannot read {path}: {reason}", "put a good copy of the file back") from None
