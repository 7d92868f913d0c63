"""Text from anywhere can neither steer a terminal nor fill the memory; programs get it as it is."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqkit.cli.main import main
from seqkit.settings import Characters
from seqkit.system.terminal import HIDDEN
from seqkit.text.codec import Codecs
from seqkit.training.display.panel import Panel, panel_lines
from seqkit.training.display.snapshot import Sample, Snapshot
from tests.support.hostile import Ask, copy, seal

# Erase the screen, set the clipboard, a C1 control, text that runs backwards, a line of its own, markup.
HOSTILE = "a\x1b[2J \x1b]52;c;aGk=\x07 \x9b31m \u202eb\u2066 \r [/foo] [link=x]y[/link] [bold]"


def standing_alone(shown: str) -> bool:
    """Nothing in it but text, and the ends of lines and columns."""
    return HIDDEN.search(shown.translate({ord(end): None for end in "\n\t"})) is None


def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both outputs say that they are terminals; pytest replaces them between fixtures and test."""
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let a command find this on its standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.fixture
def codec(tmp_path: Path) -> Path:
    """A text layer that can spell anything hostile."""
    Codecs.learn([HOSTILE], [HOSTILE], Characters()).save(tmp_path / "codec")
    return tmp_path / "codec"


def decoded(codec: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    text = "\x1b[2J\x9b\u202e"
    vocabulary = (codec / "joint" / "vocabulary.tsv").read_text(encoding="utf-8").splitlines()
    spelt = [row.split("\t")[0].encode().decode("unicode_escape") if "\\u" in row else row[0] for row in vocabulary]
    ids = " ".join(str(spelt.index(letter)) for letter in text if letter in spelt[4:])
    typed(monkeypatch, ids + "\n")
    return main(["text", "decode", str(codec), "--ids"])


def test_decoded_text_is_escaped_for_people_alone(
    codec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert decoded(codec, monkeypatch) == 0
    raw = capsys.readouterr().out
    assert "\u202e" in raw
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert decoded(codec, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert standing_alone(shown)
    assert "\\u202e" in shown


def test_settings_are_escaped_for_people_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('[data]\ntrain = ["a"]\nsource = "\u202e\x9b"\n', encoding="utf-8")
    other.write_text('[data]\ntrain = ["a"]\nsource = "\\u001b[2J"\n', encoding="utf-8")
    commands = [["show", str(one)], ["show", str(one), "--json"], ["diff", str(one), str(other)]]
    for words in commands:
        assert main(["config", *words]) == 0
        assert "\u202e" in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for words in commands:
        assert main(["config", *words]) == 0
        shown = capsys.readouterr().out
        assert "\\u202e" in shown
        assert standing_alone(shown)


@pytest.fixture
def forged(trained: Path, tmp_path: Path) -> Path:
    """A model whose names would like to be commands to a terminal."""
    model = copy(trained / "model", tmp_path)
    path = model / "recipe.toml"
    named = re.sub(
        r'(?m)^(source|target) = "[^"]*"', lambda match: f"{match[1]} = {json.dumps(HOSTILE)}", path.read_text()
    )
    path.write_text(named, encoding="utf-8")
    seal(model)
    manifest = json.loads((model / "manifest.json").read_bytes())
    manifest["facts"] = {"step": HOSTILE, "score": 1.0, "metric": HOSTILE}
    (model / "manifest.json").write_text(json.dumps(manifest))
    return model


def test_names_of_a_model_are_shown_escaped(
    forged: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch)
    text = tmp_path / "\x1b[2J\u202e.tsv"
    text.write_text("h a t\tt a h\n", encoding="utf-8")
    for words in (
        ("model", "info", forged),
        ("evaluate", forged, text, "--device", "cpu"),
        ("evaluate", forged, text, "--device", "cpu", "--json"),
        ("score", forged, text, "--device", "cpu"),
        ("perplexity", forged, text, "--device", "cpu"),
        ("data", "stats", text),
    ):
        answer = ask(*words)
        assert answer.code == 0, answer
        assert standing_alone(answer.out + answer.err), (words, answer)


def test_names_in_errors_are_shown_escaped(
    trained: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch)
    name = tmp_path / f"{HOSTILE.replace('/', '')}.tsv"
    name.write_bytes(b"\xff\n")
    missing = f"{HOSTILE.replace('/', '')} missing"
    for code, words in (
        (3, ("train", "--train", name, "train.steps=1")),
        (3, ("evaluate", trained, name)),
        (4, ("model", "info", missing)),
        (4, ("translate", missing, "-i", name)),
        (2, ("train", missing)),
        (2, ("config", "show", name)),
        (2, (missing,)),
        (2, ("train", f"--{HOSTILE}")),
        (3, ("perplexity", trained, missing)),
        (3, ("translate", trained, "-i", trained / "recipe.toml", "--terms", missing)),
        (2, ("train", "--train", name, HOSTILE.replace("\r", "") + "=1")),
    ):
        assert standing_alone(ask.refused(code, *words)), words


def test_the_panel_of_a_run_shows_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = Snapshot(
        run=HOSTILE, model=HOSTILE, device=HOSTILE, precision=HOSTILE, step=1, metric=HOSTILE, scores=(1.0,),
        epoch=0.0, elapsed=1.0, loss=1.0, perplexity=2.0, rate=0.1, tokens_per_second=1.0, padding=0.0,
        gradient_norm=1.0, samples=(Sample(HOSTILE, HOSTILE, HOSTILE),),
    )  # fmt: skip
    lines = panel_lines(snapshot, width=300, height=40)
    shown = "\n".join(line.plain for line in lines)
    assert standing_alone(shown)
    assert shown.count("[/foo] [link=x]y[/link] [bold]") >= 5  # markup is text
    Panel().message(HOSTILE)
    assert "[/foo] [link=x]y[/link] [bold]" in "".join(capsys.readouterr().err.split("\n"))


# Sizes


def test_a_small_file_does_not_become_a_large_text(trained: Path, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "bomb.tsv.gz"
    path.write_bytes(gzip.compress(bytes(1 << 25), compresslevel=1))
    for words in (("train", "--train", path, "train.steps=1"), ("evaluate", trained, path), ("data", "stats", path)):
        assert "longer than 16 MiB" in ask.refused(3, *words)
    path.write_bytes(path.read_bytes()[:-9])
    ask.refused(3, "data", "stats", path)


@pytest.mark.slow
def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for _ in range(1 << 10):
            stream.write(bytes(1 << 20))
    program = (
        "import resource, sys; from seqkit.data.corpora import read_lines; from seqkit.errors import DataError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_lines(sys.argv[1])\n"
        "except DataError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True).stdout
    assert int(told) < 150_000  # kB; the text would have been 1 GB


@pytest.mark.slow
def test_a_million_blank_lines_are_a_text_without_words(tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "blank"
    path.write_bytes(b"\n" * 10**6)
    ask.refused(3, "train", "--train", path, path, "train.steps=1")


# Files that are being written


def test_what_is_being_written_is_its_owner_s_alone(tmp_path: Path) -> None:
    from seqkit.files import replacing

    victim, path = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious")
    partial = tmp_path / f".out.{os.getpid()}.tmp"
    partial.symlink_to(victim)  # by somebody who guessed our number
    before = os.umask(0o022)
    try:
        with replacing(path) as stream:
            stream.write(b"new")
            assert not partial.is_symlink()
            assert partial.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_mode & 0o777 == 0o644
        path.chmod(0o640)
        with replacing(path) as stream:
            stream.write(b"newer")
    finally:
        os.umask(before)
    assert victim.read_text() == "precious"
    assert path.stat().st_mode & 0o777 == 0o640  # what was private stays private
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "victim"]


HOLD = """
import sys, types, click
from seqkit.cli import main
from seqkit.cli.streams import output_stream

@click.command()
@click.argument("path")
def command(path):
    with output_stream(path, overwrite=False) as stream:
        stream.write(b"half")
        stream.flush()
        print("writing", flush=True)
        sys.stdin.read()

sys.modules["hold"] = types.ModuleType("hold")
sys.modules["hold"].command = command
main.COMMANDS["hold"] = ("hold:command", "")
main.run()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing_half_written(number: int, code: int, tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, "hold", str(tmp_path / "out")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"writing\n"
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"half"]
        program.send_signal(number)
        assert program.wait(timeout=100) == code
    assert list(tmp_path.iterdir()) == []
