"""A moment of a run in one line of words, and numbers and durations in a few characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seqkit.training.display.progress import Snapshot
from seqkit.training.display.snapshot import duration, plain_line, short
from tests.support.display import MOMENT, snapshots


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
