"""What a run shows: its numbers reach the display and the log however often it validates."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec

from seqkit.settings import Train
from seqkit.storage.journal import Journal
from seqkit.training.callbacks import Validation
from seqkit.training.display.progress import PlainProgress
from seqkit.training.reporting import About, Reporting
from tests.support.training import StopAt, report, toy_trainer


def test_a_run_that_validates_after_every_step_still_shows_its_progress(tmp_path: Path) -> None:
    stream = io.StringIO()
    about = About(run="run", model="toy", device="cpu", precision="fp32", metric="bleu")
    journal = Journal(tmp_path)
    reporting = Reporting(display=PlainProgress(stream, log_seconds=1000), journal=journal, about=about)
    validation = Validation(Train(metric="bleu"), every=1, validate=lambda: report(bleu=1.0))
    toy_trainer(validation, StopAt(4), reporting).run()
    journal.close()
    lines = stream.getvalue().splitlines()
    assert any("tok/s=" in line and "dev_" not in line for line in lines)
    assert sum("dev_bleu=1" in line for line in lines) == 3  # nothing was known of the run at the first one
    events = [msgspec.json.decode(line) for line in (tmp_path / "log.jsonl").read_bytes().splitlines()]
    assert [event["step"] for event in events if event["event"] == "valid"] == [1, 2, 3, 4]
    assert any(event["event"] == "step" for event in events)


def test_two_looks_at_once_do_not_make_a_pace_of_millions(tmp_path: Path) -> None:
    about = About(run="run", model="toy", device="cpu", precision="fp32", metric="bleu")
    journal = Journal(tmp_path)
    reporting = Reporting(display=PlainProgress(io.StringIO(), log_seconds=1000), journal=journal, about=about)
    toy_trainer(StopAt(2), reporting).run()
    assert reporting.snapshot is not None
    usual = reporting.snapshot.tokens_per_second
    assert reporting._pace(1000, 1e-9) == usual
    assert reporting._pace(1000, 0.5) == 2000
    journal.close()
