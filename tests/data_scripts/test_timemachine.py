"""27 symbols, parts that are exactly the letters; only the original becomes files."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import re
import string
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from common import read_text
from hypothesis import given
from hypothesis import strategies as st

from data_scripts import timemachine
from seqkit.errors import DataError, ResourceError

TEXT = "The Time Machine, by H. G. Wells [1898]\n\n\n\nI\n\n" + "flowers--shrivelled now; the stranger's eyes\n" * 300
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "timemachine.txt").write_bytes(TEXT.encode())
    return folder


def test_every_run_of_other_characters_in_a_line_becomes_one_space() -> None:
    assert timemachine.letters(TEXT).startswith("the time machine by h g wellsiflowers shrivelled now the stranger s ")
    assert timemachine.letters(" \n_A\u212ab\u00e9c1d!\n e") == "a b c de"  # the Kelvin sign is no letter k


@given(st.text(st.one_of(st.characters(), st.sampled_from(" aB\n"))))
def test_there_are_27_symbols_and_single_spaces_inside(text: str) -> None:
    found = timemachine.letters(text)
    assert set(found) <= set(string.ascii_lowercase) | {" "}
    assert "  " not in found
    assert found == found.strip() == timemachine.letters(found)
    assert found.replace(" ", "") == re.sub("[^A-Za-z]", "", text).lower()


def test_the_parts_are_exactly_the_letters(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timemachine.main(["--from", str(copy), "--out", str(tmp_path / "out")], sha256=SHA256)
    parts = {path.stem: path.read_bytes().decode() for path in (tmp_path / "out").iterdir()}
    whole = parts.pop("letters")
    assert whole == timemachine.letters(TEXT)
    assert parts == {
        "first10000": whole[:10_000],
        "train": whole[: len(whole) * 9 // 10],
        "heldout": whole[len(whole) * 9 // 10 :],
    }
    assert f"letters.txt: {len(whole)} characters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("timemachine.txt.gz", gzip.compress(TEXT.encode())),
        ("timemachine.txt", TEXT.replace("\n", "\r\n").encode()),
        ("timemachine.txt", b"\xef\xbb\xbf" + TEXT.removesuffix("\n").encode()),
    ],
    ids=["compressed", "carriage returns", "no last line end"],
)
def test_the_same_text_in_another_coat_is_read_alike(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_text(tmp_path, "timemachine.txt", url="", sha256=SHA256) == TEXT


def test_another_text_writes_nothing(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the original"):
        timemachine.main(["--from", str(copy), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_and_a_missing_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no timemachine\.txt"):
        timemachine.main(["--from", str(tmp_path)])
    (tmp_path / "timemachine.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-20])
    with pytest.raises(DataError, match=r"timemachine\.txt\.gz is damaged"):
        timemachine.main(["--from", str(tmp_path)], sha256=SHA256)


def test_a_place_that_cannot_be_written_is_a_resource_error(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        timemachine.main(["--from", str(copy), "--out", str(tmp_path / "file")], sha256=SHA256)


def test_without_a_copy_it_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(TEXT.encode()))
    timemachine.main(["--out", str(tmp_path / "out")], sha256=SHA256)
    assert (tmp_path / "out" / "letters.txt").read_text(encoding="utf-8") == timemachine.letters(TEXT)


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route\nand a long story"), TimeoutError(), http.client.IncompleteRead(b"")],
    ids=["unreachable", "silent", "cut off"],
)
def test_what_cannot_be_fetched_points_to_a_local_copy(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def unreachable(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match=r"cannot fetch https://\S+: \S") as found:
        timemachine.main([])
    assert str(found.value).count("\n") == 1
    assert "--from DIR" in str(found.value)
