"""Displays that print lines: paced, ended with the last step, quiet where that is wanted, and never in the way."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys

import pytest

from seqkit.training.display.panel import Panel
from seqkit.training.display.progress import PlainProgress, Quiet, display
from seqkit.training.display.snapshot import plain_line
from tests.support.display import MOMENT


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


def test_nothing_here_imports_torch() -> None:
    code = "import sys, seqkit.training.display.progress, seqkit.storage.journal, seqkit.storage.lock\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
