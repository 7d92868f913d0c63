"""`status.json`: every ending stands there with its exit code, and what a killed process left is seen through."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from seqkit import config
from seqkit.demo import reverse
from seqkit.errors import BusyError, ConfigError, DataError, DivergenceError, Interrupted, ResourceError
from seqkit.runs import session
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.storage import status
from seqkit.storage.lock import RunLock
from seqkit.system.host import is_alive
from seqkit.training.callbacks import StopRequest, Validation
from seqkit.training.trainer import Trainer
from tests.support.sessions import AfterLooks, contents, progress


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where a run of the recipe goes, beside its text."""
    for name, seed in (("train", 1), ("dev", 2)):
        rows = "".join(f"{source}\t{target}\n" for source, target in reverse(20, seed=seed))
        (tmp_path / f"{name}.tsv").write_text(rows, encoding="utf-8")
    return tmp_path / "run"


def recipe(run: Path, **settings: object) -> Recipe:
    return config.build(
        {
            "data": {"train": [str(run.parent / "train.tsv")], "dev": [str(run.parent / "dev.tsv")]},
            "text": {"kind": "words", "split": "spaces"},
            "model": {"kind": "recurrent", "width": 8, "embedding": 8},
            "train": {
                "steps": 4,
                "batch_tokens": 60,
                "schedule": {"kind": "constant"},
                "metric": "loss",
                "processes": 1,
                **settings,
            },
        },
        where="the test",
    )


def told(run: Path) -> dict[str, Any]:
    """What the file says, without what is never the same twice."""
    found: dict[str, Any] = json.loads((run / "status.json").read_bytes())
    assert found.pop("host") == socket.gethostname()
    assert abs(found.pop("t") - time.time()) < 600
    return found


def test_a_complete_run_is_done_and_its_best_is_named(run: Path) -> None:
    train(recipe(run, validate_every=2), out=run, device="cpu")
    found, reached = told(run), progress(run)
    assert (found["state"], found["exit_code"], found["message"]) == ("done", 0, "steps")
    assert (found["step"], found["best"], found["best_step"]) == (4, reached.best, reached.best_step)
    assert (found["pid"], found["attempt"]) == (os.getpid(), 1)


class Looking(StopRequest):
    """Reads the status while training goes on, and aborts as a second Ctrl-C would."""

    def __init__(self, run: Path, error: BaseException | None = None) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []
        self.run, self.error = run, error

    def __getattribute__(self, name: str) -> Any:
        if name == "reason":
            self.seen.append(told(self.run))
            if self.error is not None and len(self.seen) == 3:
                raise self.error
        return super().__getattribute__(name)


def test_a_run_says_that_it_runs(run: Path) -> None:
    request = Looking(run)
    train(recipe(run), out=run, device="cpu", request=request)
    assert {found["state"] for found in request.seen} == {"running"}
    assert {found["pid"] for found in request.seen} == {os.getpid()}
    assert {found["exit_code"] for found in request.seen} == {None}


def test_a_run_that_was_asked_to_stop_says_by_what(run: Path) -> None:
    with pytest.raises(Interrupted):
        train(recipe(run), out=run, device="cpu", request=AfterLooks(1))
    found = told(run)
    assert (found["state"], found["exit_code"], found["message"]) == ("stopped", 143, "SIGTERM")
    assert found["step"] == progress(run).step


def test_a_second_interrupt_is_a_stop_without_saving(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(recipe(run), out=run, device="cpu", request=Looking(run, KeyboardInterrupt()))
    found = told(run)
    assert (found["state"], found["exit_code"], found["step"]) == ("stopped", 130, 3)
    assert "aborted" in found["message"]


def test_divergence_has_its_code(run: Path) -> None:
    with pytest.raises(DivergenceError) as caught:
        train(recipe(run, learning_rate=1e38, steps=60, save_every=1), out=run, device="cpu")
    found = told(run)
    assert (found["state"], found["exit_code"], found["message"]) == ("failed", 6, caught.value.what)


def test_what_nobody_foresaw_is_a_fault_of_ours(run: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        train(recipe(run), out=run, device="cpu", request=Looking(run, ZeroDivisionError("by zero")))
    found = told(run)
    assert (found["state"], found["exit_code"]) == ("failed", 1)
    assert found["message"] == "ZeroDivisionError: by zero"


def test_a_refused_start_is_told_and_what_was_reached_is_kept(run: Path) -> None:
    """Else a script that sees only the launcher's code would start it again for ever."""
    with pytest.raises(Interrupted):
        train(recipe(run, validate_every=1), out=run, device="cpu", request=AfterLooks(12))
    before = told(run)
    with (run.parent / "train.tsv").open("a") as stream:
        stream.write("a b\tb a\n")
    with pytest.raises(DataError) as caught:
        train(recipe(run, validate_every=1), out=run, device="cpu")
    found = told(run)
    assert (found["state"], found["exit_code"], found["message"]) == ("failed", 3, caught.value.what)
    reached = ("step", "best", "best_step")
    assert [found[key] for key in reached] == [before[key] for key in reached]
    assert before["step"] > 0
    assert before["best"] is not None


def test_a_first_start_that_is_refused_is_told_too_and_does_not_block_the_folder(run: Path) -> None:
    with pytest.raises(ConfigError):
        train(recipe(run, steps=None), out=run, device="cpu")
    assert (told(run)["state"], told(run)["exit_code"]) == ("failed", 2)
    train(recipe(run), out=run, device="cpu", overwrite=True)
    assert told(run)["state"] == "done"


def test_a_complete_run_is_done_again_after_a_refused_start(run: Path) -> None:
    train(recipe(run), out=run, device="cpu")
    with pytest.raises(ConfigError):
        train(recipe(run, clip=7.0), out=run, device="cpu")
    assert (told(run)["state"], told(run)["exit_code"], told(run)["step"]) == ("failed", 2, 4)
    train(recipe(run), out=run, device="cpu")
    assert (told(run)["state"], told(run)["exit_code"], told(run)["step"]) == ("done", 0, 4)


@pytest.mark.parametrize("kind", ["recurrent", "ngram"])
def test_a_run_that_ended_before_its_model_was_there_is_not_done(run: Path, kind: str) -> None:
    """Killed after the last save: the same command publishes what that save holds."""
    settings = recipe(run) if kind == "recurrent" else counted(run)
    train(settings, out=run, device="cpu")
    weights = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    status.write(run, msgspec.json.encode({"state": "running", "t": 0, "pid": 1, "host": "h", "step": 4}))
    train(settings, out=run, device="cpu")
    assert (run / "model" / "model.safetensors").read_bytes() == weights
    assert (told(run)["state"], told(run)["exit_code"]) == ("done", 0)


def test_whoever_finds_the_folder_in_use_does_not_speak_for_its_holder(run: Path) -> None:
    train(recipe(run), out=run, device="cpu")
    before = (run / "status.json").read_bytes()
    with RunLock(run), pytest.raises(BusyError):
        train(recipe(run, steps=9), out=run, device="cpu")
    assert (run / "status.json").read_bytes() == before


@pytest.mark.parametrize("where", [(Trainer, "step"), (Validation, "stepped")], ids=["step", "validation"])
def test_whoever_lost_the_folder_to_another_writes_nothing_more(
    run: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    """As where a process stood still so long, in a step or in a validation, that its run was taken up elsewhere."""
    original, held, left = getattr(*where), RunLock(run, heartbeat=0.01), {}

    def lose(self: Trainer | Validation, *given: Any) -> Any:
        trainer = self if isinstance(self, Trainer) else given[0]
        if trainer.progress.step == 2:
            (run / "lock").write_text(json.dumps({"pid": 7, "host": "elsewhere", "started": 0.0}))
            while held.successor is None:
                time.sleep(0.01)
            left.update(contents(run))
        return original(self, *given)

    monkeypatch.setattr(*where, lose)
    monkeypatch.setattr(session, "RunLock", lambda _: held)
    with pytest.raises(BusyError, match=r"took .* over"):
        train(recipe(run, save_every=1, validate_every=2), out=run, device="cpu")
    assert "checkpoints/step-00000001/manifest.json" in left
    assert contents(run) == left


def counted(run: Path) -> Recipe:
    text = run.parent / "train.tsv"
    tree = {"data": {"kind": "stream", "train": [str(text)]}, "text": "characters", "model": {"kind": "ngram"}}
    return config.build(tree, where="the test")


def test_counting_is_done_too(run: Path) -> None:
    train(counted(run), out=run, device="cpu")
    assert (told(run)["state"], told(run)["exit_code"]) == ("done", 0)


def test_a_reader_never_sees_half_a_status(tmp_path: Path) -> None:
    stop, seen = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            seen.append(status.read(tmp_path))

    lines = [msgspec.json.encode({"state": "running", "t": 0, "pid": 1, "host": "x" * n}) for n in (1, 9000)]
    status.write(tmp_path, lines[0])
    reader = threading.Thread(target=watch)
    reader.start()
    for number in range(100):
        status.write(tmp_path, lines[number % 2])
    stop.set()
    reader.join()
    assert seen
    assert None not in seen
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_full_disk_still_has_the_room_of_the_old_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (msgspec.json.encode({"state": state, "t": 0, "pid": 1, "host": "h"}) for state in ("running", "done"))
    status.write(tmp_path, old)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(status, "replace_file", full)
    status.write(tmp_path, new)
    assert (tmp_path / "status.json").read_bytes() == new
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(new) + 5, hard))
        status.write(tmp_path, new + b" " * 100)  # what does not fit even there leaves what was
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "status.json").read_bytes() == new


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"running"', b'{"state":"gone","t":0,"pid":1,"host":""}', b"[" * 60000, b"\xff" * 9],
)
def test_what_is_no_status_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_bytes(content)
    assert status.read(tmp_path) is None


def dead_process() -> int:
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


@pytest.mark.parametrize(
    ("process", "age", "state"),
    [
        (os.getpid, 0.0, "running at step 7"),
        (dead_process, 0.0, "killed at step 7"),
        (os.getpid, 1e6, "killed at step 7"),  # after a restart the same number is another process's
        (lambda: 1 << 70, 0.0, "killed at step 7"),
        (lambda: -1, 0.0, "killed at step 7"),
    ],
    ids=["alive", "dead", "reused", "impossible", "group"],
)
def test_a_run_that_says_it_runs_is_looked_for(process: Callable[[], int], age: float, state: str) -> None:
    found = status.Status("running", time.time() - age, process(), socket.gethostname(), step=7)
    assert found.text().startswith(state)


def test_a_process_that_only_waits_to_be_buried_is_dead() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    found = is_alive(child.pid)
    child.wait()
    assert not found


def test_of_another_machine_nothing_is_known() -> None:
    found = status.Status("running", time.time() - 600, dead_process(), "elsewhere", step=7)
    assert "on host elsewhere, last heard of 10 min ago" in found.text()


def wait_for(run: Path, state: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while (found := status.read(run)) is None or found.state != state or not found.step:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_is_seen_through(run: Path) -> None:
    run.mkdir()
    (run.parent / "recipe.toml").write_bytes(config.dump(recipe(run, steps=10**6, save_every=5)).encode())
    words = [sys.executable, "-m", "seqkit"]
    process = subprocess.Popen([*words, "-q", "train", str(run.parent / "recipe.toml"), "--out", str(run)])
    try:
        wait_for(run, "running", process)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    shown = subprocess.run([*words, "model", "info", str(run)], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith("run         killed at step ")
    assert told(run)["exit_code"] is None


FULL = """
import resource, sys
from seqkit.cli.main import main
import seqkit.runs.session
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_full_disk_has_its_code(run: Path) -> None:
    (run.parent / "recipe.toml").write_bytes(config.dump(recipe(run)).encode())
    words = [sys.executable, "-c", FULL, "-q", "train", str(run.parent / "recipe.toml"), "--out", str(run)]
    shown = subprocess.run([*words, "model.width=64"], capture_output=True, text=True)
    assert shown.returncode == ResourceError.exit_code, shown.stderr
    found = told(run)
    assert (found["state"], found["exit_code"]) == ("failed", 5)
    assert "cannot save" in found["message"]


@pytest.mark.slow
@pytest.mark.distributed
def test_what_torchrun_hides_stands_in_the_status(run: Path) -> None:
    settings = recipe(run, steps=60, learning_rate=1e38, processes=2)
    (run.parent / "recipe.toml").write_bytes(config.dump(settings).encode())
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*launcher, "-m", "seqkit", "-q", "train", str(run.parent / "recipe.toml"), "--out", str(run)]
    found = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert found.returncode == 1, found.stderr
    assert (told(run)["state"], told(run)["exit_code"]) == ("failed", 6)
