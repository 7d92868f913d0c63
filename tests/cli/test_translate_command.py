"""`seqkit translate`: a filter that keeps lines apart."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqkit import config
from seqkit.cli import streams
from seqkit.cli import translate_command as translate
from seqkit.cli.main import main
from seqkit.cli.words import search_of
from seqkit.errors import DataError
from seqkit.files import lines
from seqkit.inference import workers as workers_module
from seqkit.inference.glossary import Glossary
from seqkit.inference.translation import Line, Translation
from seqkit.inference.translator import Translator
from seqkit.settings import Recipe, Search
from tests.support.pipes import output_of, standard_input

Captured = pytest.CaptureFixture[bytes]

RECIPE = config.build({"data": {"train": ["a", "b"], "source": "en"}}, where="the test")
WORDS = ["h a t", "", "c a t s", " \u00a0", "z", "o n e"]
SEQKIT = [sys.executable, "-m", "seqkit"]


class Echo:
    """Stands for a translator: says what it was told, backwards."""

    recipe: Recipe = RECIPE
    limit = 512
    description = "en-xx  echo"

    def translate(
        self,
        lines: Iterable[str | Line],
        *,
        search: Search | None = None,
        glossary: Glossary | None = None,
        protect: bool = False,
        explain: bool = False,
    ) -> Iterator[Translation]:
        for each in lines:
            line = each if isinstance(each, str) else each.text
            text = line[::-1].replace("\r", " ") if line.strip() else ""
            others = tuple((f"{text}{rank}", -rank / 2) for rank in range(1, search.nbest if search else 1))
            ids = tuple(range(len(line)))
            parts = 0 if not text else 1 + (len(line) > self.limit)
            yield Translation(line, text, -0.25, -0.5, parts=parts, alternatives=others, segments=((ids, ids),))

    def align(self, source: str, target: Translation) -> tuple[list[str], list[str], list[list[float]]]:
        return source.split(), target.text.split(), [[1.0 for _ in source.split()] for _ in target.text.split()]


@pytest.fixture
def echo() -> Iterator[Echo]:
    with patch.object(Translator, "load", lambda *_, **__: Echo()):
        yield Echo()


def through(words: Sequence[str], given: bytes) -> bytes:
    """What the command writes for these bytes, and that it ends well."""
    return output_of(["translate", *words], given)


@settings(max_examples=60)
@example([b"\xef\xbb\xbf"], False)  # a byte order mark alone is no line
@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"\r"))), st.booleans())
def test_as_many_lines_come_out_as_went_in_and_blank_ones_stay_blank(rows: list[bytes], ended: bool) -> None:
    given = b"\n".join(rows) + b"\n" * (ended and bool(rows))
    read = list(lines(io.BytesIO(given), "given"))
    with patch.object(Translator, "load", lambda *_, **__: Echo()):
        found = through(["run", "-q"], given)
    unended = given.removeprefix(b"\xef\xbb\xbf").rpartition(b"\n")[2]
    assert found.count(b"\n") == len(read) == given.count(b"\n") + bool(unended)
    for line, answer in zip(read, found.split(b"\n"), strict=False):
        answer.decode()
        assert bool(answer.strip()) <= bool(line.decode(errors="replace").replace("\0", " ").strip())


def test_blocks_are_what_has_arrived_and_end_with_what_went_wrong() -> None:
    ready, write = os.pipe()
    with os.fdopen(ready, "rb", buffering=0) as stream, os.fdopen(write, "wb", buffering=0) as pipe:
        blocks = iter(streams.LineBlocks(stream, "a pipe"))
        pipe.write(b"a\nb")
        assert next(blocks) == [b"a"]
        pipe.write(b"\nc\nd")
        assert next(blocks)[0] == b"b"
        pipe.close()
        assert [line for block in blocks for line in block][-1] == b"d"

    def failing() -> Iterator[bytes]:
        yield b"a"
        raise DataError("damaged")

    with patch.object(streams, "lines", lambda *_: failing()):
        blocks = iter(streams.LineBlocks(io.BytesIO(), "a file"))
    assert next(blocks) == [b"a"]
    with pytest.raises(DataError, match="damaged"):
        next(blocks)


def test_blocks_keep_order_and_never_exceed_their_size() -> None:
    rows = [str(number).encode() for number in range(7001)]
    blocks = list(streams.LineBlocks(io.BytesIO(b"\n".join(rows)), "numbers"))
    assert [line for block in blocks for line in block] == rows
    assert max(map(len, blocks)) <= streams.BLOCK


def test_a_block_is_full_when_so_many_lines_are_there() -> None:
    blocks = streams.LineBlocks(io.BytesIO(b"a\n" * 3 * streams.BLOCK), "a file")
    limit = time.monotonic() + 100
    while blocks._queue.qsize() < streams.BLOCK and time.monotonic() < limit:
        time.sleep(0.01)
    assert len(next(iter(blocks))) == streams.BLOCK


def test_n_best_lists_are_rows_and_fields_hold_no_separators(echo: Echo) -> None:
    given = b"a\tb\n\nc\n"
    rows = [line.split("\t") for line in through(["run", "-q", "--nbest", "2"], given).decode().splitlines()]
    assert rows == [
        ["1", "1", "-0.2500", "b a"],
        ["1", "2", "-0.5000", "b a1"],
        ["2", "1", "-0.2500", ""],
        ["2", "2", "-0.5000", "1"],
        ["3", "1", "-0.2500", "c"],
        ["3", "2", "-0.5000", "c1"],
    ]
    assert through(["run", "-q", "--scores"], given) == b"-0.2500\tb\ta\n\n-0.2500\tc\n"
    records = [json.loads(line) for line in through(["run", "-q", "--format", "jsonl"], given).splitlines()]
    assert [record["id"] for record in records] == [1, 2, 3]
    assert records[0]["source"] == "a\tb"
    assert records[2]["translation"] == "c"


def test_the_summary_and_one_warning_of_each_kind_go_to_stderr(echo: Echo, capfdbinary: Captured) -> None:
    given = b"a\n\xff\xfe\n\xff\n" + 2 * (b"x" * 600 + b"\n")
    found = through(["run"], given)
    assert found.decode().splitlines()[1:3] == ["\ufffd\ufffd", "\ufffd"]
    told = capfdbinary.readouterr().err.decode()
    assert told.count("is not UTF-8") == 1
    assert "line 2 is not UTF-8" in told
    assert told.count("longer than 512 tokens") == 1
    assert "5 lines, " in told
    assert "2 split, 2 invalid UTF-8\n" in told
    through(["run", "-q"], given)
    assert capfdbinary.readouterr().err == b""


def test_foreign_control_characters_do_not_reach_a_terminal(echo: Echo) -> None:
    layout = translate._OutputFormat("text", False, None, terminal=True)
    [found] = echo.translate(["J2[\x1b [/foo] \u202e \x9b"])
    shown = layout.lines(1, found).decode()
    assert not set(shown) & set("\x1b\u202e\x9b")
    assert "oof/[" in shown
    assert "\x1b" in layout._replace(terminal=False).lines(1, found).decode()


def test_a_file_appears_whole_or_not_at_all(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Captured
) -> None:
    (tmp_path / "in").write_bytes(b"abc\ndef\n")
    words = ["translate", "run", "-q", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    assert main(words) == 0
    assert (tmp_path / "out").read_bytes() == b"cba\nfed\n"
    assert main(words) == 2
    assert b"--overwrite" in capfdbinary.readouterr().err

    def stopped(*_: object, **__: object) -> Iterator[Translation]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(Echo, "translate", stopped)
    assert main([*words, "--overwrite"]) == 130
    assert (tmp_path / "out").read_bytes() == b"cba\nfed\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out.part"]
    assert main([*words[:-1], str(tmp_path / "none" / "out")]) == 5
    assert main([*words[:-1], "/dev/null"]) == 130
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


LAYOUTS = [[], ["--nbest", "2"], ["--format", "jsonl"], ["--scores"], ["--align", "pharaoh"], ["--format", "tsv"]]


@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
def test_an_interrupted_output_is_resumed_to_the_same_bytes(layout: list[str], echo: Echo, tmp_path: Path) -> None:
    """Cut anywhere: in a line, between lines, between the rows of one line, after the last."""
    (tmp_path / "in").write_bytes(b"abc\n\nde\xc3\xa9f\nxyz\n")
    words = ["translate", "run", "-q", "-i", str(tmp_path / "in"), *layout, "-o"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    whole = (tmp_path / "whole").read_bytes()
    for size in range(len(whole) + 1):
        (tmp_path / "out.part").write_bytes(whole[:size])
        assert main([*words, str(tmp_path / "out"), "--resume", "--overwrite"]) == 0
        assert (tmp_path / "out").read_bytes() == whole
        assert not (tmp_path / "out.part").exists()
    assert main([*words, "-", "--resume"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nowhere"], 4, "nowhere is not a model folder"),
        (["RUN", "search.bean=3"], 2, "did you mean search.beam?"),
        (["RUN", "--nbest", "9"], 2, "search.nbest = 9"),
        (["RUN", "--beam", "0"], 2, "search.beam"),
        (["RUN", "model.width=3"], 2, "model.width=3 has no effect"),
        (["RUN", "-i", "missing.txt"], 3, "missing.txt does not exist"),
        (["RUN", "--workers", "2", "--device", "cuda"], 2, "--workers are processes on the CPU"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(
    words: list[str], code: int, told: str, trained: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with standard_input(b"a\n"):
        assert main(["translate", *(word.replace("RUN", str(trained)) for word in words)]) == code
    captured = capfd.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_pipe_file_and_python_say_the_same(trained: Path, tmp_path: Path) -> None:
    given = "".join(f"{line}\n" for line in WORDS).encode()
    piped = through([str(trained), "-q", "--beam", "2"], given)
    (tmp_path / "in").write_bytes(given)
    through([str(trained), "-q", "search.beam=2", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")], b"")
    translator = Translator.load(trained)
    search = search_of(translator.recipe, ["search.beam=2"])
    texts = [found.text for found in translator.translate(WORDS, search=search)]
    assert piped.decode().split("\n")[:-1] == (tmp_path / "out").read_text("utf-8").split("\n")[:-1] == texts
    assert len(set(texts)) > 3


@pytest.mark.slow
def test_workers_say_the_same_in_the_same_order(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several windows, each shared out among processes; and with what a request may ask for."""
    monkeypatch.setattr(workers_module, "WINDOW", 100)
    (tmp_path / "in").write_text("".join(f"{word}\n" for word in (WORDS * 50)[:250]), encoding="utf-8")
    (tmp_path / "terms.tsv").write_text("h\tq r\no\t\u4e0d\n", encoding="utf-8")
    words = [str(trained), "-q", "-i", str(tmp_path / "in"), "--terms", str(tmp_path / "terms.tsv")]
    words += ["--format", "jsonl", "--align", "words", "search.beam=2"]
    alone, shared = (
        [json.loads(line) for line in through([*words, *more], b"").splitlines()] for more in ([], ["--workers", "2"])
    )
    assert len(alone) == 250
    for one, other in zip(alone, shared, strict=True):
        for key in ("id", "source", "translation", "missing", "parts", "unknown"):
            assert one[key] == other[key]
        # Numbers may differ in their last digits, as those of any two batches.
        assert one["token_scores"] == pytest.approx(other["token_scores"], abs=1e-4)
        assert [link[:2] for link in one["alignment"]] == [link[:2] for link in other["alignment"]]


@contextlib.contextmanager
def piped(words: Sequence[str], environment: dict[str, str]) -> Iterator[Any]:
    """A program with pipes at all three ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process


@pytest.mark.slow
def test_a_waiting_program_gets_each_answer_at_once_in_any_locale(trained: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = [*SEQKIT, "translate", str(trained), "--format", "jsonl"]
    with piped(words, environment) as process:
        for number, line in enumerate(["h a t", "ä ö", "", "c"] * 5, start=1):
            process.stdin.write(f"{line}\n".encode())
            record = json.loads(process.stdout.readline())
            assert (record["id"], record["source"]) == (number, line)
        # Stopped in the middle of waiting: what was asked has been answered.
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stdout.read() == process.stderr.read() == b""


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(trained: Path) -> None:
    with piped([*SEQKIT, "translate", str(trained)], dict(os.environ)) as process:
        process.stdin.write(b"h a t\n")
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"h a t\n")  # and nothing more: the reading thread still waits when all ends
        assert process.wait() == 141
        assert process.stderr.read() == b""


def test_terms_protection_prefixes_and_links_as_typed(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "terms.tsv").write_text("h\tq r\no\t不\n", encoding="utf-8")
    (tmp_path / "in").write_text("h a t\n\nb o\nm a t e\n", encoding="utf-8")
    words = ["translate", str(trained), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--overwrite"]
    plain = translated(words, tmp_path)
    assert main([*words, "--terms", str(tmp_path / "terms.tsv")]) == 0
    found = (tmp_path / "out").read_text("utf-8").splitlines()
    told = capfd.readouterr().err
    assert "q r" in found[0]
    assert (found[1], found[3]) == ("", plain[3])
    assert "line 3 could not be given its terms: 不" in told
    assert "1 with a term missing" in told

    assert all(line.startswith("z") for line in translated([*words, "--prefix", "z"], tmp_path) if line)
    for line in translated([*words, "--align", "pharaoh"], tmp_path):
        if line:
            text, links = line.split("\t")
            assert [int(link.split("-")[1]) for link in links.split()] == list(range(len(text.split())))
    assert main([*words[:2], "--terms", str(tmp_path / "none.tsv")]) == 3


def translated(words: list[str], folder: Path) -> list[str]:
    assert main([*words, "-o", str(folder / "out")]) == 0
    return (folder / "out").read_text("utf-8").splitlines()


def test_lines_may_bring_their_own_wishes(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    records = [{"source": "h a t", "terms": {"a": ["q r", "x"]}}, {"source": "m a t", "prefix": "z z"}]
    text = "".join(json.dumps(record) + "\n" for record in records) + "\n"
    (tmp_path / "in").write_text(text, encoding="utf-8")
    words = ["translate", str(trained), "--jsonl", "--format", "jsonl", "--overwrite", "-i", str(tmp_path / "in")]
    found = [json.loads(line) for line in translated(words, tmp_path)]
    assert {"q", "x"} & set(found[0]["translation"].split())
    assert found[1]["translation"].startswith("z z")
    assert (found[2]["translation"], found[2]["parts"]) == ("", 0)
    for wrong in ("{", '{"text": "a"}', '{"source": "a", "terms": {"a": []}}'):
        (tmp_path / "in").write_text('{"source": "a"}\n' + wrong + "\n", encoding="utf-8")
        assert main([*words, "-o", str(tmp_path / "other")]) == 3
        assert "line 2" in capfd.readouterr().err


def test_several_runs_are_one_translator(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("h a t\nm a t e\n", encoding="utf-8")
    words = ["-i", str(tmp_path / "in"), "--overwrite"]
    alone = translated(["translate", str(trained), *words], tmp_path)
    for models in ([str(trained), str(trained)], [f"{trained}+{trained / 'model'}"]):
        assert translated(["translate", *models, *words], tmp_path) == alone
