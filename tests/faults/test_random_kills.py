"""A training killed at random times, again and again, and taken up by the same command.

By hand, with any number of kills and any seed:

    SEQKIT_KILLS=200 SEQKIT_SEED=7 pytest -m long -s tests/faults/test_random_kills.py -k one_process
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from seqkit.storage import checkpoint
from seqkit.training import reporting
from tests.support.faults import assert_nothing_broken, assert_same_end, attempt, begin, events, write_corpus

SAVE_EVERY = 20
# The command as typed, but for this: every step is recorded, so that the log says what a kill cost.
COUNTED = """
import seqkit.training.reporting as reporting
from seqkit.cli.main import run
reporting.SECONDS = reporting.RECORD_SECONDS = 0.0
run()
"""


def counted() -> None:
    """The same for a fork of a process that has imported everything, where most kills fall on seqkit's own work."""
    reporting.SECONDS = reporting.RECORD_SECONDS = 0.0


class Attempt:
    """One start of the command, which can be killed with all that it started."""

    def __init__(self, folder: Path, *, steps: int, processes: int, fork: bool, run: str = "run") -> None:
        words = ["-q", "train", "recipe.toml", "--out", run, "--device", "cpu", f"train.steps={steps}", "train.keep=2"]
        words += [f"train.save_every={SAVE_EVERY}", "train.validate_every=50", f"train.processes={processes}"]
        self.told = folder / "told"
        self.told.write_text("")
        if fork:
            self.process: BaseProcess | subprocess.Popen[bytes] = begin(folder, *words, before=counted)
            return
        with self.told.open("wb") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COUNTED, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # a group of its own, partners included
            )

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended; None if it has not within so many seconds."""
        if isinstance(self.process, BaseProcess):
            self.process.join(seconds)
            return self.process.exitcode
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode

    def lives_on(self, seconds: float) -> None:
        """Wait so long; it must not end of its own accord."""
        assert self.wait(seconds) is None, self.told.read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        assert self.process.pid is not None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not yet made a group of its own
            os.kill(self.process.pid, signal.SIGKILL)
        self.wait()


@dataclass
class Kills:
    """What was made and lost."""

    made: int = 0
    resumed: int = 0  # attempts that went on from a checkpoint
    training: int = 0  # kills that fell behind the first step of an attempt
    lost: list[int] = field(default_factory=list)  # steps, by kill


def finish(folder: Path, *, steps: int, processes: int, fork: bool, run: str = "run") -> None:
    started = Attempt(folder, steps=steps, processes=processes, fork=fork, run=run)
    if started.wait(3000) is None:
        started.kill()
    assert started.wait() == 0, started.told.read_text(encoding="utf-8")


def seconds_to_first_step(folder: Path, *, processes: int, fork: bool) -> float:
    """How long this machine, as busy as it is, needs before anything is trained."""
    began = time.monotonic()
    started = Attempt(folder, steps=10**9, processes=processes, fork=fork, run="trial")
    try:
        while not any(line["event"] == "step" for line in logged(folder / "trial")):
            assert time.monotonic() < began + 200
            started.lives_on(0.05)
        return time.monotonic() - began
    finally:
        started.kill()


def logged(run: Path) -> list[dict[str, Any]]:
    """The whole lines of the log, as a death has left it."""
    path = run / "log.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content.split(b"\n")[:-1]]


def standing(run: Path) -> int:
    """The step of the newest good checkpoint on the disk, one that was being replaced included; 0 if there is none."""
    folder = run / "checkpoints"
    good = [int(path.name[5:]) for path in folder.glob("step-????????") if checkpoint.verify(path) is None]
    return max([*good, *(int(path.name[6:14]) for path in folder.glob(".step-*.old"))], default=0)


def killed(folder: Path, *, kills: int, seed: int, processes: int, fork: bool) -> Kills:
    """Kill the run so many times; each attempt must begin at the newest checkpoint that the one before had saved."""
    if fork:
        assert attempt(folder, "--version").code == 0  # what all others are forks of has now imported everything
    chance, found, run = random.Random(seed), Kills(), folder / "run"
    longest = 2.5 * seconds_to_first_step(folder, processes=processes, fork=fork)
    stood = before = 0
    while found.made < kills:
        started = Attempt(folder, steps=10**9, processes=processes, fork=fork)
        try:
            started.lives_on(chance.uniform(0.0, longest))
        finally:
            started.kill()
        found.made += 1
        assert_nothing_broken(run)
        lines = logged(run)
        begun = [line["step"] for line in lines[before:] if line["event"] in ("start", "resume")]
        assert begun in ([], [stood]), (begun, stood)
        steps = [line["step"] for line in lines[before:] if line["event"] == "step"]
        found.resumed += bool(begun and stood)
        found.training += bool(steps)
        stood, before = standing(run), len(lines)
        found.lost.append(max(0, max(steps, default=0) - stood))
        assert found.lost[-1] <= SAVE_EVERY
    return found


def killed_or_not(folder: Path, *, kills: int, seed: int, processes: int, fork: bool) -> None:
    write_corpus(folder)
    began = time.monotonic()
    found = killed(folder, kills=kills, seed=seed, processes=processes, fork=fork)
    steps = standing(folder / "run") + 30
    finish(folder, steps=steps, processes=processes, fork=fork)
    finish(folder, steps=steps, processes=processes, fork=fork, run="straight")
    events(folder / "run")
    print(
        f"\nseed {seed}, {processes} processes: {found.made} kills ({found.training} while training), "
        f"{found.resumed} resumes, {steps} steps; steps lost: {sum(found.lost)} in all, {max(found.lost)} at most; "
        f"{(time.monotonic() - began) / 60:.0f} minutes"
    )
    assert_same_end(folder / "run", folder / "straight")


def number(name: str, usual: int) -> int:
    return int(os.environ.get(name, usual))


@pytest.mark.slow
def test_a_few_kills_leave_no_trace(tmp_path: Path) -> None:
    killed_or_not(tmp_path, kills=5, seed=number("SEQKIT_SEED", 1), processes=1, fork=False)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_many_kills_of_one_process_leave_no_trace(tmp_path: Path) -> None:
    kills = number("SEQKIT_KILLS", 200)
    killed_or_not(tmp_path, kills=kills, seed=number("SEQKIT_SEED", 1), processes=1, fork=True)


@pytest.mark.long
@pytest.mark.distributed
@pytest.mark.timeout(4 * 3600)
def test_many_kills_of_two_processes_leave_no_trace(tmp_path: Path) -> None:
    kills = number("SEQKIT_KILLS", 30)
    killed_or_not(tmp_path, kills=kills, seed=number("SEQKIT_SEED", 1), processes=2, fork=False)
