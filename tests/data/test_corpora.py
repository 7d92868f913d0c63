"""Pairs stay pairs: what is dropped goes on both sides, and what cannot be trusted is refused with its place."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.corpora import ParallelText, read_lines, read_pairs
from seqkit.errors import ConfigError, DataError


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def pairs(text: ParallelText) -> list[tuple[str, str]]:
    return list(zip(text.source, text.target, strict=True))


def test_two_files_one_word_and_a_table_agree(tmp_path: Path) -> None:
    source, target = write(tmp_path, "x.en", "a\nb\r\nc"), write(tmp_path, "x.de", "A\nB\nC\n")
    table = write(tmp_path, "x.tsv", "a\tA\nb\tB\r\nc\tC")
    packed = write(tmp_path, "y.tsv.gz", gzip.compress(b"a\tA\nb\tB\nc\tC\n", mtime=0))
    expected = ParallelText(["a", "b", "c"], ["A", "B", "C"], {"blank": 0, "bad UTF-8": 0}, 0)
    for files in ([source, target], [f"{tmp_path}/x.{{en,de}}"], [table], [packed]):
        assert read_pairs(files) == expected
    assert len(expected) == 3


def test_several_corpora_are_read_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path, "x.en", "a\n\n\0\n"), write(tmp_path, "x.de", "A\nB\nC\n")
    write(tmp_path, "y.en.gz", gzip.compress(b"d\n")), write(tmp_path, "y.de.gz", gzip.compress(b"D\n"))
    write(tmp_path, "z.tsv", "e\tE\n \tF\n")
    write(tmp_path, "w.tsv.gz", gzip.compress(b"h\tH\n"))
    words = [f"{tmp_path}/x.{{en,de}}", f"{tmp_path}/z.tsv", f"{tmp_path}/w.tsv.gz", f"{tmp_path}/y.{{en,de}}.gz"]
    expected = [("a", "A"), (" ", "C"), ("e", "E"), ("h", "H"), ("d", "D")]
    text = read_pairs(words)
    assert pairs(text) == [pair for pair in expected if pair[0].strip()]
    assert text.dropped == {"blank": 3, "bad UTF-8": 0}
    assert text.nul == 1
    both = read_pairs([f"{tmp_path}/{{x,x}}.{{en,de}}"])
    assert pairs(both) == [("a", "A")] * 2
    write(tmp_path, "z1.txt", "g\n"), write(tmp_path, "z2.txt", "G\n")
    assert pairs(read_pairs([f"{tmp_path}/z{number}.txt" for number in (1, 2, 1, 2)])) == [("g", "G")] * 2
    write(tmp_path, "y.de", "D\nE\n"), write(tmp_path, "y.en", "d\n")
    with pytest.raises(DataError, match=r"y\.en has 1 lines, .*y\.de 2"):  # nothing of a good neighbour makes up for it
        read_pairs([f"{tmp_path}/x.{{en,de}}", f"{tmp_path}/y.{{en,de}}"])


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ([], "none is named"),
        (["a", "b", "c"], "c has no target"),
        (["x.{en,de}", "y"], "y has no target"),
        (["x.en", "y.tsv"], r"x\.en has no target"),
        (["{a,b}.en", "{a,b}.de"], "which of these files are sources"),
        (["a.en", "a.de", "b.de", "b.en"], "which of these files are sources"),
    ],
)
def test_files_that_make_no_pairs_are_refused(files: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        read_pairs(files)


def test_a_table_has_no_quotes_and_no_missing_values(tmp_path: Path) -> None:
    rows = [('He said "hi', '"so'), ("NA", "null"), ('"q"', "x\\t"), (" a ", "b ")]
    path = write(tmp_path, "x.tsv", "".join(f"{left}\t{right}\n" for left, right in rows))
    assert pairs(read_pairs([path])) == rows


@pytest.mark.parametrize(("row", "count"), [("lone", "1 field"), ("a\tb\tc", "3 fields"), ("", "1 field")])
def test_a_row_without_two_fields_is_named(tmp_path: Path, row: str, count: str) -> None:
    path = write(tmp_path, "x.tsv", f"a\tb\n{row}\na\tb\n")
    with pytest.raises(DataError, match=rf"x\.tsv line 2 has {count}, not 2"):
        read_pairs([path])


BLANK = st.sampled_from(["", " ", "\t", "\u00a0", "\u2003 \u00a0", "\u2028", "\0"])


@given(sides=st.lists(st.tuples(BLANK | st.just("left"), BLANK | st.just("right")), min_size=1))
def test_a_blank_side_takes_its_pair_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, sides: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("blank")
    numbered = [
        (a if a != "left" else f"left{i}", b if b != "right" else f"right{i}") for i, (a, b) in enumerate(sides)
    ]
    files = [write(folder, f"x.{side}", "".join(pair[side] + "\n" for pair in numbered)) for side in (0, 1)]
    good = [pair for pair in numbered if pair[0].startswith("left") and pair[1].startswith("right")]
    if good:
        text = read_pairs(files)
        assert pairs(text) == good
        assert text.dropped["blank"] == len(sides) - len(good)
    else:
        with pytest.raises(DataError, match="no pair is left"):
            read_pairs(files)
    kept = read_pairs(files, keep_blank=True)
    assert len(kept) == len(sides)
    assert kept.dropped["blank"] == 0
    assert kept.nul == sum(pair[side].count("\0") for pair in numbered for side in (0, 1))


def test_separators_inside_lines_do_not_shift_pairs(tmp_path: Path) -> None:
    lines = ["a\u2028b", "c\u0085d", "e\vf\fg", "h\x1ci", "j\rk"]
    files = [write(tmp_path, name, "\n".join(lines)) for name in ("x.en", "x.de")]
    assert pairs(read_pairs(files)) == [(line, line) for line in lines]
    assert read_lines(files[0]) == lines


def test_nul_becomes_a_space_and_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "x.tsv", "a\0b\tc\nd\te\0\0\n")
    text = read_pairs([path])
    assert pairs(text) == [("a b", "c"), ("d", "e  ")]
    assert text.nul == 3


@pytest.mark.parametrize("name", ["x.tsv", "x.de"])
def test_bad_bytes_are_named_or_take_their_pair(tmp_path: Path, name: str) -> None:
    write(tmp_path, "x.en", "a\nb\nc\n")
    write(tmp_path, "x.de", b"A\nB\xff\xfe\nC\n")
    write(tmp_path, "x.tsv", b"a\tA\nb\xc3\tB\xff\nc\tC\n")
    files = [str(tmp_path / "x.tsv")] if name == "x.tsv" else [str(tmp_path / "x.en"), str(tmp_path / "x.de")]
    byte = "0xc3" if name == "x.tsv" else "0xff"
    with pytest.raises(DataError) as caught:
        read_pairs(files)
    assert caught.value.what == f"{tmp_path / name} line 2 is not UTF-8 (byte {byte})"
    assert caught.value.hint == "data.bad_utf8=skip drops the pair"
    text = read_pairs(files, bad_utf8="skip")
    assert pairs(text) == [("a", "A"), ("c", "C")]
    assert text.dropped == {"blank": 0, "bad UTF-8": 1}


def test_bad_bytes_in_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "x", b"a\n\xe2\x82\nc\n")
    with pytest.raises(DataError, match=r"x line 2 is not UTF-8 \(byte 0xe2\)"):
        read_lines(path)
    assert read_lines(path, bad_utf8="skip") == ["a", "c"]


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, "x.gz" if content[:1] == b"\x1f" else "x", content)
    for read in (lambda: read_lines(path), lambda: read_pairs([path]), lambda: read_pairs([path, path])):
        with pytest.raises(DataError, match="is empty"):
            read()


@pytest.mark.parametrize("missing", [0, 1, 40, 98, 99])
@pytest.mark.parametrize("side", [0, 1])
def test_misaligned_files_are_refused_with_the_place(tmp_path: Path, missing: int, side: int) -> None:
    draw = random.Random(missing)
    lengths = [draw.randint(3, 120) for _ in range(100)]
    lines = [["x" * length for length in lengths], ["y" * round(length * 1.3) for length in lengths]]
    del lines[side][missing]
    files = [write(tmp_path, f"x.{number}", "\n".join(lines[number])) for number in (0, 1)]
    with pytest.raises(DataError) as caught:
        read_pairs(files)
    assert caught.value.what == f"{files[0]} has {len(lines[0])} lines, {files[1]} {len(lines[1])}"
    assert caught.value.hint is not None
    line = int(caught.value.hint.rpartition(" ")[2])
    assert abs(line - (missing + 1)) <= 2


def test_damage_while_reading_names_the_file(tmp_path: Path) -> None:
    whole = gzip.compress(b"a\tb\n" * 10_000)
    for content in (whole[: len(whole) // 2], b"a\tb\n"):
        path = write(tmp_path, "x.tsv.gz", content)
        with pytest.raises(DataError, match=r"x\.tsv\.gz is damaged"):
            read_pairs([path])
