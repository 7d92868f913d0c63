"""`seqkit text`: lines in, lines out."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from seqkit.cli import text_command
from seqkit.cli.main import main
from seqkit.errors import ResourceError

Captured = pytest.CaptureFixture[bytes]

ENGLISH = "the cat sat\nthe dog ran\n\na bird\n"
GERMAN = "die Katze saß\nder Hund lief\n\nein Vogel\n"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "a.en").write_text(ENGLISH, encoding="utf-8")
    (tmp_path / "a.de").write_text(GERMAN, encoding="utf-8")
    pairs = zip(ENGLISH.split("\n"), GERMAN.split("\n"), strict=True)
    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs if a), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def through(words: list[str], given: bytes, capture: Captured, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert main(words) == 0, capture.readouterr().err
    return capture.readouterr().out


@pytest.mark.parametrize("ids", [[], ["--ids"]])
@pytest.mark.parametrize("kind", ["characters", "words", "sentencepiece"])
def test_what_is_encoded_is_decoded_again_line_by_line(
    kind: str, ids: list[str], corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ["text.size=60", "text.byte_fallback=false"] if kind == "sentencepiece" else []
    assert main(["text", "learn", "a.{en,de}", "--out", "c", f"text.kind={kind}", *size, "-q"]) == 0
    given = "the dog sat\n\n   \nein Hund\u2028lief\r\nbird".encode()
    encoded = through(["text", "encode", "c", *ids], given, capfdbinary, monkeypatch)
    rows = encoded.split(b"\n")
    assert len(rows) == 6
    assert rows[1:3] == [b"", b""]
    assert not ids or all(word.isdigit() for row in rows for word in row.split())
    decoded = through(["text", "decode", "c", *ids], encoded, capfdbinary, monkeypatch)
    assert decoded.decode() == "the dog sat\n\n\nein Hund lief\nbird\n"


def test_more_lines_than_a_block_stay_in_order(
    corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["text", "learn", "a.en", "a.de", "--out", "c", "text=characters"]) == 0
    given = b"".join(b"cat\n" if number % 3 else b"\n" for number in range(2501))
    encoded = through(["text", "encode", "c"], given, capfdbinary, monkeypatch)
    assert encoded == given.replace(b"cat", b"c a t")


def test_the_two_sides_may_have_vocabularies_of_their_own(
    corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for texts, out in ((["a.en", "a.de"], "c"), (["a.tsv"], "d")):
        assert main(["text", "learn", *texts, "--out", out, "text=words", "text.joint=false"]) == 0
        capfdbinary.readouterr()
        source = through(["text", "vocabulary", out], b"", capfdbinary, monkeypatch).decode()
        target = through(["text", "vocabulary", out, "--side", "target"], b"", capfdbinary, monkeypatch).decode()
        assert "\nthe\t4\t2\n" in source
        assert "Hund" in target
        assert "Hund" not in source
        assert source.startswith("<pad>\t0\t0\n")


def test_bad_bytes_are_counted_and_no_line_is_lost(
    corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["text", "learn", "a.en", "--out", "c", "text=words"]) == 0
    capfdbinary.readouterr()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the\xff\ncat\n")))
    assert main(["text", "encode", "c"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b"the <unk>\ncat\n"
    assert err == b"seqkit: lines with bytes that are not UTF-8, now U+FFFD: 1\n"


def test_an_id_that_is_none_names_its_line(
    corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["text", "learn", "a.en", "--out", "c", "text=words", "-q"]) == 0
    for wrong in ("99", "-1", "x", "9" * 5000, "²"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"4\n\n{wrong}\n".encode())))
        assert main(["text", "decode", "c", "--ids"]) == 3
        assert b"standard input, line 3" in capfdbinary.readouterr().err


def test_a_folder_is_replaced_only_on_demand(corpus: Path, capfdbinary: Captured) -> None:
    learn = ["text", "learn", "a.en", "--out", "c"]
    assert main([*learn, "text=words"]) == 0
    before = {path: path.read_bytes() for path in Path("c").rglob("*") if path.is_file()}
    assert main([*learn, "text=characters"]) == 2
    assert b"--overwrite" in capfdbinary.readouterr().err
    assert main([*learn, "--overwrite"]) == 2  # the text does not support so many pieces
    assert {path: path.read_bytes() for path in Path("c").rglob("*") if path.is_file()} == before
    assert main([*learn, "--overwrite", "text=characters"]) == 0
    assert {path: path.read_bytes() for path in Path("c").rglob("*") if path.is_file()} != before
    assert sorted(path.name for path in corpus.iterdir()) == ["a.de", "a.en", "a.tsv", "c"]  # nothing else is left


def test_what_cannot_be_published_leaves_nothing(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(partial: Path, final: Path) -> None:
        raise ResourceError("the disk is full")

    monkeypatch.setattr(text_command, "replace_folder", full)
    assert main(["text", "learn", "a.en", "--out", "c", "text=words"]) == 5
    assert sorted(path.name for path in corpus.iterdir()) == ["a.de", "a.en", "a.tsv"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["learn", "a.en", "--out", "c", "model.width=3"], 2),
        (["learn", "a.en", "--out", "c", "text=words", "text.joint=false"], 2),
        (["learn", "b.en", "--out", "c"], 3),
        (["encode", "nowhere"], 4),
    ],
)
def test_mistakes_have_their_codes(words: list[str], code: int, corpus: Path, capfdbinary: Captured) -> None:
    assert main(["text", *words]) == code
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert err.startswith(b"seqkit: error: ")
    assert not Path("c").exists()


def test_the_codec_of_a_run_is_found_in_it(
    corpus: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("run").mkdir()
    assert main(["text", "learn", "a.en", "--out", "run/codec", "text=words", "-q"]) == 0
    assert through(["text", "encode", "run"], b"the cat\n", capfdbinary, monkeypatch) == b"the cat\n"
