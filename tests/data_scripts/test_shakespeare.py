"""The cut falls between two characters and changes none."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from pathlib import Path

import pytest

from data_scripts import shakespeare
from seqkit.errors import DataError

TEXT = "First Citizen:\nSpeak.\n\n" * 7 + "All:\nSpeak, speak, speak.\n"
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "input.txt"])
def test_both_parts_together_are_the_original(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TEXT.encode())
    shakespeare.main(["--from", str(tmp_path), "--out", str(tmp_path / "out")], sha256=SHA256)
    train, valid = ((tmp_path / "out" / f"{part}.txt").read_bytes() for part in ("train", "valid"))
    assert (train + valid).decode() == TEXT
    assert len(train) == int(0.9 * len(TEXT))
    assert not train.endswith(b"\n")


def test_another_text_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(TEXT.encode())
    with pytest.raises(DataError, match=r"input\.txt is not the original"):
        shakespeare.main(["--from", str(tmp_path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_without_a_copy_it_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(TEXT.encode()))
    shakespeare.main(["--out", str(tmp_path / "out")], sha256=SHA256)
    assert (tmp_path / "out" / "train.txt").read_text(encoding="utf-8") == TEXT[: int(0.9 * len(TEXT))]
