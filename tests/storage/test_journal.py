"""Laws of the run's own files: every line parses whatever happened, attempts only grow, disks may be full."""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkit.errors import ResourceError
from seqkit.storage import journal as journal_module
from seqkit.storage.journal import Journal

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


def events(run: Path) -> list[dict[str, object]]:
    def refuse(word: str) -> None:
        raise ValueError(word)

    content = (run / "log.jsonl").read_bytes()
    assert content.endswith(b"\n") or not content
    return [json.loads(line, parse_constant=refuse) for line in content.split(b"\n")[:-1]]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters()).map(lambda key: f"x{key}"), ANYTHING, max_size=4))
def test_one_event_one_line(fields: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), clock=lambda: 12.3456)
        journal.write("step", fields)
        journal.close()
        [line] = events(Path(folder))
    assert (line["v"], line["t"], line["attempt"], line["event"]) == (1, 12.346, 1, "step")
    assert len(line) == 4 + len(fields) or any("\ud800" <= letter < "\ue000" for key in fields for letter in key)


def test_numbers_and_objects(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    nothing = {"nan": float("nan"), "inf": float("inf")}
    journal.write(
        "step", {**nothing, "loss": numpy.float32(0.5), "n": numpy.int64(3), "path": Path("a"), "bad": "\ud800", "v": 9}
    )
    journal.close()
    [line] = events(tmp_path)
    assert line["nan"] is line["inf"] is None
    assert line["v"] == 1
    assert (line["loss"], line["n"], line["path"], line["bad"]) == (0.5, 3, "a", "?")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_torn_anywhere(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for _ in range(2):
            journal = Journal(run, clock=lambda: 1.5)
            journal.write("step", {"step": 1, "text": "ä"})
            journal.write("stop", {})
            journal.close()
        content = (run / "log.jsonl").read_bytes()
        kept = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.sampled_from([b"", b"\0" * 9]))
        (run / "log.jsonl").write_bytes(kept)
        whole = [line for line in kept.split(b"\n") if line in content.split(b"\n") and line]
        journal = Journal(run, clock=lambda: 1.5)
        journal.write("start", {})
        journal.close()
        found = events(run)
    assert len(found) == len(whole) + 1
    assert found[-1]["attempt"] == (json.loads(whole[-1])["attempt"] if whole else 0) + 1


def test_attempts_of_a_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "TAIL", 100)
    for attempt in range(1, 4):
        journal = Journal(tmp_path)
        assert journal.attempt == attempt
        for step in range(20):
            journal.write("step", {"step": step})
        journal.close()
    with (tmp_path / "log.jsonl").open("ab") as stream:
        stream.write(b'{"v":1,"att')
    assert Journal(tmp_path).attempt == 4
    assert len(events(tmp_path)) == 60


def test_full_disk_tears_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("step", {"step": 0})
    size = (tmp_path / "log.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        journal.write("step", {"step": 1})
        journal.status({"state": "running", "long": "x" * 1000})
        journal.log("x" * 1000)
        lost = journal.lost
        journal.write("step", {"step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (lost, journal.lost) == (1, 2)
    journal.write("step", {"step": 3})
    journal.write("step", {"step": 4})
    journal.close()
    assert [(line["step"], line.get("lost")) for line in events(tmp_path)] == [(0, None), (3, 2), (4, None)]


def test_status_is_not_written_all_the_time(tmp_path: Path) -> None:
    now = [1000.0]
    journal = Journal(tmp_path, clock=lambda: now[0])

    def step() -> object:
        return json.loads((tmp_path / "status.json").read_bytes())["step"]

    journal.status({"state": "running", "step": 1, "best": float("nan")})
    now[0] += 4.9
    journal.status({"state": "running", "step": 2})
    assert step() == 1
    journal.status({"state": "running", "step": 3}, force=True)
    assert step() == 3
    now[0] += 5.0
    journal.status({"state": "running", "step": 4})
    assert step() == 4
    now[0] -= 3600  # a clock that was set back does not silence it
    journal.status({"state": "running", "step": 5})
    assert step() == 5
    journal.close()


def test_samples_keep_their_columns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.samples(10, [("a\tb\r\nc", "d", "\ud800"), ("", "", "")])
    journal.samples(20, [("e\u2028f", "g", "h")])
    journal.close()
    rows = [line.split("\t") for line in (tmp_path / "samples.tsv").read_bytes().decode().split("\n")[:-1]]
    assert rows[0] == ["step", "source", "reference", "hypothesis"]
    assert rows[1:] == [["10", "a b  c", "d", "?"], ["10", "", "", ""], ["20", "e\u2028f", "g", "h"]]


def test_plain_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path, clock=lambda: 0.0)
    journal.log("begin")
    journal.log("Traceback\n  line\n")
    journal.close()
    expected = "1970-01-01 00:00:00 begin\n1970-01-01 00:00:00 Traceback\n  line\n"
    assert (tmp_path / "train.log").read_text() == expected


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot write .*log\.jsonl"):
        Journal(tmp_path / "absent")
