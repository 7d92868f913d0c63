"""Folders and files as an enemy would make them, and commands that must answer with a documented code."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from seqkit.cli.main import main

Spoil = Callable[[Path], object]


class Answer(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


class Ask:
    """Runs a command as the console script would, and sees that what it says of an error is for people."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: str | Path) -> Answer:
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *self.capsys.readouterr())

    def refused(self, code: int, *words: str | Path, lines: int = 2) -> str:
        """The command ends with this code, and with nothing but a line that says why and one that says what to do."""
        answer = self(*words)
        assert answer.code == code, answer
        rows = answer.err.splitlines()
        assert rows, answer
        assert rows[0].startswith("seqkit: error: "), answer
        assert len(rows) <= lines, answer
        assert max(map(len, rows)) < 1500, answer
        assert "Traceback" not in answer.err
        return answer.err


def seal(folder: Path, *, codec: bool = False) -> None:
    """Let the manifest of a model folder, and with `codec` that of its text layer, say what is there now."""
    if codec:
        path = folder / "codec" / "manifest.json"
        manifest = json.loads(path.read_bytes())
        for name, entry in manifest["files"].items():
            entry.update(_facts(path.parent / name))
        path.write_text(json.dumps(manifest))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    for entry in manifest["files"]:
        entry.update(_facts(folder / entry["name"]))
    path.write_text(json.dumps(manifest))


def _facts(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def copy(run: Path, place: Path) -> Path:
    return Path(shutil.copytree(run, place / "copy"))


def content(name: str, replacement: bytes) -> Spoil:
    """Write other bytes in the place of a file."""
    return lambda folder: (folder / name).write_bytes(replacement)


def gone(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def pipe(name: str) -> Spoil:
    """Put a named pipe in the place of a file: who opens it waits for ever."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def link(name: str) -> Spoil:
    """Replace a file by a link to the same content outside of the folder."""

    def spoil(folder: Path) -> None:
        outside = folder.parent / "outside"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return spoil


def subfolder(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def safetensors(header: object, data: bytes = b"", *, claimed: int | None = None) -> bytes:
    """A file of tensors with any header, which claims to have any size."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written) if claimed is None else claimed) + written + data


def tensor(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class _Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


def bombs(canary: Path) -> dict[str, bytes]:
    """Files that make the folder `canary` as soon as a careless reader opens them."""
    bomb = _Bomb(canary)
    plain = pickle.dumps(bomb)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:  # as torch.save writes it
        zipped.writestr("archive/data.pkl", plain)
        zipped.writestr("archive/version", "3\n")
    array = io.BytesIO()
    np.save(array, np.array([bomb], dtype=object), allow_pickle=True)
    return {
        "pickle": plain,
        "text": pickle.dumps(bomb, protocol=0),
        "zip": archive.getvalue(),
        "npy": array.getvalue(),
        "gzip": gzip.compress(plain),
    }
