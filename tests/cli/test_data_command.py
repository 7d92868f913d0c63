"""`seqkit data`: counts of a text for people and for programs."""

from __future__ import annotations

import gzip
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from seqkit.cli.main import main

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("a.txt").write_text("the cat sat\nthe dog sat on the cat\n\nthe cat sat\n", encoding="utf-8")
    return tmp_path


def printed(words: list[str], capture: Captured) -> str:
    assert main(["data", "stats", *words]) == 0, capture.readouterr().err
    out, err = capture.readouterr()
    assert err == ""
    return out


def test_a_person_sees_counts_and_curves(corpus: Path, capsys: Captured) -> None:
    out = printed(["a.txt", "--top", "2"], capsys).split("\n")
    cells = [line.split() for line in out]
    for row in (
        "lines 4",
        "tokens 12",
        "mean line 3.00",
        "longest 6",
        "unigrams bigrams trigrams",
        "all 12 9 6",
        "different 5 6 5",
        "seen once 2 (40.0 %) 4 (66.7 %) 4 (80.0 %)",
        "4 the",
        "3 cat",
        "3 the cat",
        "2 cat sat",
        "2 the cat sat",
    ):
        assert row.split() in cells
    assert [row[:2] for row in cells if row[:1] == ["Zipf"]] == [["Zipf", "slope"]]
    assert ["3", "sat"] not in cells  # the third of the unigrams
    assert any(map(dotted, out))
    assert max(map(len, out)) <= 80


def dotted(line: str) -> bool:
    return any("\u2800" <= letter <= "\u28ff" for letter in line)


@pytest.mark.parametrize("width", [10, 59, 60, 200])
def test_the_picture_fits_its_terminal(
    width: int, corpus: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = printed(["a.txt"], capsys).split("\n")
    picture = [line for line in lines if dotted(line)]
    assert {len(line) for line in picture} <= {width, width - 1, width - 2}
    assert len(picture) == (12 if width >= 60 else 36)
    assert max(map(len, lines[lines.index(picture[-1]) :])) <= width


def dots(panel: list[str]) -> list[list[int]]:
    """The rows of the dots of each column, by what the braille patterns of Unicode are defined to be."""
    columns: list[list[int]] = [[] for _ in range(2 * len(panel[0]))]
    for y, line in enumerate(panel):
        for x, letter in enumerate(line):
            for bit, (dx, dy) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]):
                if (ord(letter) - 0x2800) >> bit & 1:
                    columns[2 * x + dx].append(4 * y + dy)
    return [sorted(column) for column in columns]


def test_a_curve_falls_from_the_first_rank_to_the_last(
    corpus: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    Path("b.txt").write_text("a b c d e f g h i j\n" * 64 + "a " * 64 + "k", encoding="utf-8")
    columns = dots([line for line in printed(["b.txt"], capsys).split("\n") if dotted(line)][:12])
    assert len(columns) == 80
    assert columns[0] == [0]
    assert columns[-1][-1] == 47
    for column, (before, after) in enumerate(pairwise(columns)):
        assert after == list(range(min(after), max(after) + 1)), column
        assert max(before) <= min(after) <= max(before) + 1, column  # it neither rises nor has gaps


def test_a_program_gets_json(corpus: Path, capsys: Captured) -> None:
    Path("b.txt.gz").write_bytes(gzip.compress(b"a  dog\n"))
    found = json.loads(printed(["a.txt", "b.txt.gz", "--json", "--top", "1"], capsys))
    assert found | {"ngrams": None} == {
        "files": ["a.txt", "b.txt.gz"],
        "unit": "words",
        "lines": 5,
        "bad_lines": 0,
        "tokens": 14,
        "mean_line": 2.8,
        "longest_line": 6,
        "ngrams": None,
    }
    assert [(each["order"], each["total"], each["types"], each["hapaxes"]) for each in found["ngrams"]] == [
        (1, 14, 6, 2),
        (2, 10, 7, 5),
        (3, 6, 5, 4),
    ]
    assert found["ngrams"][1]["top"] == [{"tokens": ["the", "cat"], "count": 3}]
    assert -2 < found["ngrams"][0]["zipf_slope"] < 0


def test_characters(corpus: Path, capsys: Captured) -> None:
    out = printed(["a.txt", "--tokens", "characters"], capsys).split("\n")
    assert ["9", "\u2581"] in [line.split() for line in out]
    assert ["4", "the"] in [line.split() for line in out]


def test_a_text_cannot_write_to_the_terminal(corpus: Path, capsys: Captured) -> None:
    Path("b.txt").write_text("\x1b[2Jx \u202ey \x07 " + "z" * 1000 + "\n", encoding="utf-8")
    out = printed(["b.txt"], capsys)
    assert r"\x1b[2Jx" in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert max(map(len, out.split("\n"))) <= 80


def test_bad_bytes_are_counted_and_the_rest_is_used(corpus: Path, capsys: Captured) -> None:
    Path("b\x07.txt").write_bytes(b"a b\n\xff\nc\n\xfe\n")
    assert main(["data", "stats", "b\x07.txt", "a.txt", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["tokens"] == 15
    assert json.loads(out)["lines"] == 6
    assert json.loads(out)["bad_lines"] == 2
    assert err == "seqkit: b\\x07.txt: lines with bytes that are not UTF-8, left out: 2\n"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\n"])
def test_a_text_without_tokens_is_an_error(content: bytes, corpus: Path, capsys: Captured) -> None:
    Path("b.txt").write_bytes(content)
    assert main(["data", "stats", "b.txt", "-q"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[0] for line in err.splitlines()] == ["seqkit", "hint"]
    assert "b.txt" in err


def test_an_empty_file_among_others_is_an_error(corpus: Path, capsys: Captured) -> None:
    Path("b.txt").touch()
    assert main(["data", "stats", "a.txt", "b.txt"]) == 3
    assert capsys.readouterr() == ("", "seqkit: error: b.txt is empty\nhint: it must hold at least one line\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [(["nowhere.txt"], 3), ([], 2), (["a.txt", "--tokens", "pieces"], 2), (["a.txt", "--top", "-1"], 2)],
)
def test_mistakes_have_their_codes(words: list[str], code: int, corpus: Path, capsys: Captured) -> None:
    assert main(["data", "stats", *words]) == code
    assert capsys.readouterr().err.startswith("seqkit: error: ")


def test_the_picture_can_be_a_file(corpus: Path, capsys: Captured) -> None:
    pytest.importorskip("matplotlib")
    assert main(["data", "stats", "a.txt", "--png", "a\x07.png"]) == 0
    assert capsys.readouterr().err == "written to a\\x07.png\n"
    assert Path("a\x07.png").read_bytes().startswith(b"\x89PNG")
    assert main(["data", "stats", "a.txt", "--png", "nowhere/a.png"]) == 5


def test_without_matplotlib_the_remedy_is_told_before_the_work(
    corpus: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["data", "stats", "a.txt", "--png", "a.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "seqkit: error: plotting needs matplotlib\nhint: pip install '.[plot]'\n"
    assert not Path("a.png").exists()
