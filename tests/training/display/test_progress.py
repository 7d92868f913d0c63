"""Laws of the displays: whatever the run and its text, nothing raises, overflows or steers the terminal."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from seqkit.system.terminal import escape
from seqkit.training.display.panel import Panel, panel_lines
from seqkit.training.display.progress import PlainProgress, Quiet, Sample, Snapshot, display
from seqkit.training.display.snapshot import duration, plain_line, short

NASTY = "\x1b[2J \x1b]52;c;aGk=\x07 \x9b1A \u202eevil\u2066 [/foo] [link=x]y[/link] :smile: \r\n\u2028 \ud800 漢字 end"
MOMENT = Snapshot(
    run="numbers/run",
    model="transformer 1.2 M",
    device="cpu x4",
    precision="fp32",
    step=1480,
    steps_total=2400,
    epoch=4.1,
    epochs_total=12,
    elapsed=52,
    eta=31,
    loss=0.412,
    perplexity=1.51,
    rate=6.1e-4,
    tokens_per_second=18300,
    padding=0.07,
    gradient_norm=0.81,
    losses=tuple(5 / step for step in range(1, 200)),
    scores=(12.4, 58.0, 81.3, 93.2),
    perplexities=(9.1, 2.3, 1.4, 1.2),
    best_score=93.2,
    best_step=1400,
    saved_step=1400,
    saved_ago=11,
    samples=(Sample("the 5th of March", "der 5. März", "der 5. März"), Sample(NASTY, "b", "c")),
)

anything = st.text(st.characters(), max_size=60)
number = st.floats()
count = st.integers(0, 10**12)
curve = st.lists(number, max_size=40).map(tuple)
snapshots = st.builds(
    Snapshot,
    **dict.fromkeys(("run", "model", "device", "precision", "metric"), anything),
    **dict.fromkeys(("loss", "perplexity", "rate", "tokens_per_second", "gradient_norm", "elapsed"), number),
    **dict.fromkeys(("steps_total", "epochs_total", "best_step", "saved_step"), st.none() | count),
    **dict.fromkeys(("eta", "best_score", "saved_ago"), st.none() | number),
    **dict.fromkeys(("losses", "scores", "perplexities"), curve),
    **dict.fromkeys(("step", "skipped", "out_of_memory"), count),
    epoch=st.floats(0, 1e9),
    padding=st.floats(0, 1),
    samples=st.lists(st.builds(Sample, anything, anything, anything), max_size=3).map(tuple),
)
CONTROLS = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), 0xD800)]


@given(anything)
def test_visible_text_steers_nothing(text: str) -> None:
    shown = escape(text)
    assert not any(control in shown for control in CONTROLS)
    assert "".join(filter(str.isprintable, text)) in shown or not text.isprintable()
    shown.encode()


def test_ordinary_text_is_left_alone() -> None:
    for text in ("der 5. März", "漢字 हिन्दी नमस्ते", "\u0645\u06cc\u200c\u062e\u0648", "[/foo]", "a\u00a0b"):
        assert escape(text) == text
    assert escape(NASTY).startswith("\\x1b[2J \\x1b]52;c;aGk=\\x07 \\x9b1A \\u202eevil\\u2066 [/foo]")


def test_plain_line_reads_like_this() -> None:
    line = "step=1480 epoch=4.1 loss=0.412 ppl=1.51 lr=6.1e-04 tok/s=18300 eta=31s"
    assert plain_line(MOMENT) == line
    assert plain_line(MOMENT, validated=True) == f"{line} dev_ppl=1.2 dev_bleu=93.2 best=93.2@1400"


@given(snapshots, st.booleans())
def test_plain_lines_are_words(snapshot: Snapshot, validated: bool) -> None:
    line = plain_line(snapshot, validated=validated)
    assert len(line) < 200
    assert line.isprintable()
    assert all(len(word.split("=")) == 2 and all(word.split("=")) for word in line.split(" "))


@settings(max_examples=60, deadline=None)
@given(snapshots, st.integers(1, 200), st.integers(1, 60), st.booleans(), st.booleans())
def test_panel_fits(snapshot: Snapshot, width: int, height: int, ascii_only: bool, running: bool) -> None:
    lines = panel_lines(snapshot, width=width, height=height, ascii_only=ascii_only, running=running)
    assert 1 <= len(lines) <= max(2, min(16, height - 1))
    for line in lines:
        assert line.cell_len <= width
        assert not any(control in line.plain for control in CONTROLS)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 50), (20, 3)])
def test_panel_on_terminals(width: int, height: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, force_terminal=True, color_system=None)
    panel = Panel(console, clock=iter(range(0, 1000, 10)).__next__)
    panel.started(["12 pairs", "[/foo]\x1b[2J"])
    panel.update(MOMENT)
    panel.message("[red]warning")
    panel.validated(MOMENT)
    panel.close()
    panel.close()
    shown = screen.getvalue()
    assert "[/foo]\\x1b[2J" in shown.replace("\n", "")
    assert "[red]warning" in shown.replace("\n", "")
    assert "\x1b[2J" not in shown
    assert shown.endswith("\x1b[?25h")  # the cursor is back
    last = shown.rsplit("\x1b[2K", 1)[1]
    assert last.count("\n") <= height
    assert "Ctrl-C" not in last


def test_panel_says_what_it_should() -> None:
    text = "\n".join(line.plain for line in panel_lines(MOMENT, width=100, height=40))
    for word in (
        "numbers/run",
        "1480/2400",
        "loss 0.412",
        "ppl 1.51",
        "lr 6.1e-04",
        "tok/s 18.3k",
        "pad 7%",
        "ETA 0:00:31",
    ):
        assert word in text
    assert "dev BLEU 12.4 58 81.3 93.2 (best 93.2 @ 1400)" in text
    assert "saved step 1400 (0:00:11 ago)" in text
    assert text.count("exact") == 1
    assert text.endswith("Ctrl-C: save and stop")
    for line in panel_lines(dataclasses.replace(MOMENT, samples=()), width=100, height=40, ascii_only=True):
        assert line.plain.isascii()


def test_panel_redraws_at_most_four_times_a_second() -> None:
    screen = io.StringIO()
    now = [0.0]
    console = Console(file=screen, width=80, height=24, force_terminal=True)
    panel = Panel(console, clock=lambda: now[0])
    drawn = 0
    for _ in range(64):  # two seconds
        before = screen.tell()
        panel.update(MOMENT)
        drawn += screen.tell() > before
        now[0] += 1 / 32
    panel.close()
    assert drawn == 8


def test_plain_progress_is_paced() -> None:
    stream, now = io.StringIO(), [0.0]
    plain = PlainProgress(stream, log_seconds=30, clock=lambda: now[0])
    plain.started(["summary\x1b"])
    for second in range(100):
        now[0] = float(second)
        plain.update(dataclasses.replace(MOMENT, step=second))
    plain.validated(dataclasses.replace(MOMENT, step=100))
    plain.message("two\nlines")
    plain.close()
    lines = stream.getvalue().split("\n")
    assert lines[0] == "summary\\x1b"
    assert [line.split()[0] for line in lines[1:-3]] == [f"step={step}" for step in (0, 30, 60, 90, 100)]
    assert lines[-3:] == ["two", "lines", ""]


def test_plain_progress_ends_with_the_last_step() -> None:
    stream = io.StringIO()
    plain = PlainProgress(stream)
    for step in (1, 2, 3):
        plain.update(dataclasses.replace(MOMENT, step=step))
    plain.close()
    plain.close()
    assert [line.split()[0] for line in stream.getvalue().splitlines()] == ["step=1", "step=3"]


class Gone(io.StringIO):
    """A reader that went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_went_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", Gone())
    plain = PlainProgress(Gone())
    plain.update(MOMENT)
    plain.message("x")
    plain.close()
    panel = display(terminal=True, quiet=False)
    panel.update(MOMENT)
    panel.message("x")
    panel.close()


def test_displays(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = display(terminal=True, quiet=True)
    assert isinstance(quiet, Quiet)
    quiet.started(["summary"])
    quiet.update(MOMENT)
    quiet.validated(MOMENT)
    quiet.message("careful")
    quiet.close()
    assert isinstance(display(terminal=True, quiet=False), Panel)
    display(terminal=False, quiet=False).update(MOMENT)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"careful\n{plain_line(MOMENT)}\n"


def test_words_for_numbers() -> None:
    assert [duration(seconds) for seconds in (0, 52, 3661.4, 90061, float("nan"), float("inf"))] == [
        "0:00:00",
        "0:00:52",
        "1:01:01",
        "1 d 1:01:01",
        "?",
        "?",
    ]
    assert [short(value) for value in (0.412, 93.2, 18300, 1.2e6, 999_700, 1e20, float("nan"))] == [
        "0.412",
        "93.2",
        "18.3k",
        "1.2M",
        "1000k",
        "1e+20",
        "nan",
    ]


def test_nothing_here_imports_torch() -> None:
    code = "import sys, seqkit.training.display.progress, seqkit.storage.journal, seqkit.storage.lock\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
