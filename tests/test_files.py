"""Lines end at LF only, damage has a name, and files are published whole or not at all."""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from seqkit import files
from seqkit.errors import DataError

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def lines_of(content: bytes) -> list[bytes]:
    return list(files.lines(io.BytesIO(content), "x"))


def read(path: Path) -> list[bytes]:
    with files.open_binary(path) as stream:
        return list(files.lines(stream, str(path)))


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))))
def test_only_lf_ends_a_line(texts: list[str]) -> None:
    content = "".join(f"{text}\n" for text in texts).encode()
    plain = [text.encode() for text in texts]
    if plain:
        plain[0] = plain[0].removeprefix(b"\xef\xbb\xbf")
    assert lines_of(content) == plain
    assert lines_of(content.replace(b"\n", b"\r\n")) == plain


def test_separators_inside_a_line_are_text() -> None:
    line = "a\u2028b\u2029c\u0085d\ve\ff\x1cg\x1dh\x1ei\rj"
    assert lines_of(f"{line}\nk\n".encode()) == [line.encode(), b"k"]


def test_mark_is_dropped_on_the_first_line_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert lines_of(mark + b"a\n" + mark + b"b\n") == [b"a", mark + b"b"]
    assert lines_of(mark) == []
    assert lines_of(mark + b"\na") == [b"", b"a"]


def test_missing_last_end_still_counts() -> None:
    assert lines_of(b"a\nb") == [b"a", b"b"]
    assert lines_of(b"a\n\n") == [b"a", b""]
    assert lines_of(b"") == []


class Dribble(io.RawIOBase):
    """A stream that hands over what it likes, as pipes do."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks = iter(blocks)

    def read(self, size: int | None = -1) -> bytes:
        return next(self.blocks, b"")


@given(st.lists(st.text("ab\n\r\ufeff", min_size=1, max_size=5).map(str.encode), max_size=9))
def test_block_borders_do_not_matter(blocks: list[bytes]) -> None:
    assert list(files.lines(cast(BinaryIO, Dribble(blocks)), "x")) == lines_of(b"".join(blocks))


def test_a_line_without_end_is_given_up_in_time() -> None:
    blocks = itertools.repeat(bytes(files.READ_SIZE), files.LONGEST_LINE // files.READ_SIZE + 1)
    with pytest.raises(DataError, match="line 2 is longer than 16 MiB"):
        list(files.lines(cast(BinaryIO, Dribble(itertools.chain([b"a\n"], blocks, _never()))), "x"))


def _never() -> Iterator[bytes]:
    yield pytest.fail("more was read")


def test_a_line_comes_before_the_pipe_ends() -> None:
    """A filter answers each line as it is typed; a reader that waits for more would wait for ever."""
    inward, outward = os.pipe()
    got = threading.Event()
    with open(inward, "rb") as reader, open(outward, "wb", buffering=0) as writer:
        found: list[bytes] = []

        def take() -> None:
            for line in files.lines(reader, "pipe"):
                found.append(line)
                got.set()

        thread = threading.Thread(target=take)
        thread.start()
        writer.write(b"a\n")
        arrived = got.wait(timeout=10)
        writer.close()
        thread.join()
    assert arrived
    assert found == [b"a"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    content = os.urandom(100_000).hex().encode() + b"\nlast"
    path.write_bytes(COMPRESS[suffix](content[:50]) + COMPRESS[suffix](content[50:]))  # as `cat a.gz b.gz` makes it
    assert read(path) == content.split(b"\n")
    path.write_bytes(COMPRESS[suffix](b""))
    assert read(path) == []


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_damaged_compression_names_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    whole = COMPRESS[suffix](b"a line\n" * 100_000)
    for content in (whole[: len(whole) // 2], whole[:-1], b"plain text, wrong name\n", whole[:9] + bytes(99)):
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in caught.value.what
        assert caught.value.hint


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_bomb_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(COMPRESS[suffix](bytes(files.LONGEST_LINE + files.READ_SIZE)))
    with pytest.raises(DataError, match="line 1 is longer than 16 MiB"):
        read(path)


def test_errors_of_opening(tmp_path: Path) -> None:
    (tmp_path / "train.en").touch()
    with pytest.raises(DataError) as caught:
        files.open_binary(tmp_path / "trian.en")
    assert caught.value.hint == f"did you mean {tmp_path / 'train.en'}?"
    for name in ("no/x", "no/x.gz", "no/x.xz", "no/x.zst"):
        with pytest.raises(DataError) as caught:
            files.open_binary(tmp_path / name)
        assert caught.value.hint == f"the folder {tmp_path / 'no'} does not exist"
    (tmp_path / "folder.gz").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*folder\.gz"):
        files.open_binary(tmp_path / "folder.gz")


def test_decoding() -> None:
    assert files.decode("schön\0".encode()) == ("schön ", True)
    assert files.decode(b"a\xffb") == ("a\ufffdb", False)


def test_braces() -> None:
    assert files.expand_braces("x.{en,de}.gz") == ["x.en.gz", "x.de.gz"]
    assert files.expand_braces("{a,b}{c,d}") == ["ac", "ad", "bc", "bd"]
    assert files.expand_braces("x{1}.{}") == ["x{1}.{}"]


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_file_is_replaced_whole_or_not(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(before)

    def fail() -> None:
        with files.replacing(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == ({"x": before} if before else {})
    files.replace_file(path, "neü")
    assert path.read_text(encoding="utf-8") == "neü"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    final = tmp_path / "final"
    for content in ("one", "two"):
        files.replace_folder(folder(tmp_path / "partial", content), final)
        assert (final / "file").read_text() == content
    folder(tmp_path / f".final.{os.getpid()}.old", "left by a crash")
    files.replace_folder(folder(tmp_path / "partial", "three"), final)
    assert (final / "file").read_text() == "three"
    assert [entry.name for entry in tmp_path.iterdir()] == ["final"]


def test_a_folder_stays_when_its_successor_cannot_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    final, partial = folder(tmp_path / "final", "old"), folder(tmp_path / "partial", "new")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self == partial:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"):
        files.replace_folder(partial, final)
    assert (final / "file").read_text() == "old"


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(tmp_path / "x").startswith("ba7816bf")
