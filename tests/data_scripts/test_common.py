"""Strict reading, checks before writing, errors in two lines."""

from __future__ import annotations

import gzip
from pathlib import Path

import common
import pytest

from seqkit.errors import DataError, ResourceError


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_plain_and_compressed_files_read_alike(tmp_path: Path, ending: str) -> None:
    content = "a b\nü\u2028x\n".encode()
    (tmp_path / f"x.en{ending}").write_bytes(gzip.compress(content) if ending else content)
    assert common.read_lines(tmp_path, "x.en") == ["a b", "ü\u2028x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\n\xff\n", "line 2 is not UTF-8"), (b"a\rb\n", "line 1 has a line break"), (b"a\n \nb\n", "line 2 is blank")],
)
def test_a_damaged_line_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.en").write_bytes(content)
    with pytest.raises(DataError, match=message):
        common.read_lines(tmp_path, "x.en")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no x\.en or y\.en"):
        common.read_lines(tmp_path, "x.en", "y.en")


def test_columns_after_the_second_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("Go.\tVa !\tCC-BY 2.0\n", encoding="utf-8")
    assert common.read_pairs(tmp_path, "x.tsv") == [("Go.", "Va !")]


@pytest.mark.parametrize("line", ["only one", "\tright", "left\t", "left\t "])
def test_a_line_without_two_texts_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.tsv").write_text(f"a\tb\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 2 is not two texts"):
        common.read_pairs(tmp_path, "x.tsv")


def test_sizes_must_be_those_of_the_original() -> None:
    common.check_sizes({"train": [("a", "b")]}, {"train": 1})
    with pytest.raises(DataError, match="train has 1 pairs, the original has 2"):
        common.check_sizes({"train": [("a", "b")]}, {"train": 2})


def test_published_files_hold_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common.publish(tmp_path / "new" / "folder", {"x.en": ["ä", "b"]})
    assert (tmp_path / "new/folder/x.en").read_bytes() == "ä\nb\n".encode()
    assert "x.en: 2 lines" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        common.publish(tmp_path / "file", {"x": []})


def test_an_error_is_two_lines_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DataError("what happened", "what to do")

    with pytest.raises(SystemExit) as left:
        common.run(fail)
    assert left.value.code == 3
    assert capsys.readouterr().err == "error: what happened\nhint: what to do\n"
