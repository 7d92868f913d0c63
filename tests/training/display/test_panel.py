"""The panel says what it should, fits its terminal, steers nothing, and is redrawn four times a second at most."""

from __future__ import annotations

import dataclasses
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from seqkit.training.display.panel import Panel, panel_lines
from seqkit.training.display.progress import Snapshot
from tests.support.display import CONTROLS, MOMENT, snapshots


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
