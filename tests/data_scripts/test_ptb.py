"""Mikolov's files lose the blanks at their lines' ends and nothing else; an incomplete copy becomes none."""

from __future__ import annotations

import gzip
import io
import urllib.request
from pathlib import Path

import pytest

from data_scripts import ptb
from seqkit.errors import DataError

PARTS = {"train": " a <unk> b \n c \n", "valid": " N years \n", "test": " d d d \n"}
SIZES = {"train": (2, 4), "valid": (1, 2), "test": (1, 3)}
WRITTEN = {"train.txt": b"a <unk> b\nc\n", "valid.txt": b"N years\n", "test.txt": b"d d d\n"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, text in PARTS.items():
        (folder / f"ptb.{name}.txt.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_local_copy_becomes_plain_files(copy: Path, tmp_path: Path) -> None:
    ptb.main(["--from", str(copy), "--out", str(tmp_path / "out")], sizes=SIZES)
    assert written(tmp_path / "out") == WRITTEN


def test_what_it_writes_it_can_read(copy: Path, tmp_path: Path) -> None:
    ptb.main(["--from", str(copy), "--out", str(tmp_path / "out")], sizes=SIZES)
    ptb.main(["--from", str(tmp_path / "out"), "--out", str(tmp_path / "again")], sizes=SIZES)
    assert written(tmp_path / "again") == WRITTEN


def test_a_copy_may_lack_test(copy: Path, tmp_path: Path) -> None:
    (copy / "ptb.test.txt.gz").unlink()
    ptb.main(["--from", str(copy), "--out", str(tmp_path / "out")], sizes=SIZES)
    assert written(tmp_path / "out") == {name: text for name, text in WRITTEN.items() if name != "test.txt"}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("line", [" d \n d d \n", " d \n"])
def test_a_wrong_count_of_lines_or_words_writes_nothing(copy: Path, tmp_path: Path, part: str, line: str) -> None:
    (copy / f"ptb.{part}.txt.gz").write_bytes(gzip.compress(line.encode()))
    with pytest.raises(DataError, match=f"{part} has . lines of . words, the original"):
        ptb.main(["--from", str(copy), "--out", str(tmp_path / "out")], sizes=SIZES)
    assert not (tmp_path / "out").exists()


def test_the_counts_of_the_original_are_the_default(copy: Path) -> None:
    with pytest.raises(DataError, match="the original 42068 of 887521"):
        ptb.main(["--from", str(copy)])


def test_without_a_copy_all_parts_are_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, **_: object) -> io.BytesIO:
        return io.BytesIO(PARTS[url.rpartition("/")[2].split(".")[1]].encode())

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    ptb.main(["--out", str(tmp_path / "out")], sizes=SIZES)
    assert written(tmp_path / "out") == WRITTEN
