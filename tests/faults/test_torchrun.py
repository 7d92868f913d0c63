"""Under torchrun: the same run as anywhere else; any death ends it, a signal stops it, and only one process writes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.storage import checkpoint
from tests.support.faults import write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

LIMIT = 300  # seconds for what takes ten

# Notes the process's number of each file below run/ that it opens to write, renames or makes.
WATCHER = """\
import os, sys
def watch(event, arguments):
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    if event in ("open", "os.rename", "os.mkdir", "os.remove") and isinstance(arguments[0], (str, os.PathLike)):
        path = os.path.abspath(os.fspath(arguments[0]))
        if path.startswith(os.path.abspath("run")):
            note = os.open(os.environ["NOTES"] + os.environ.get("RANK", "none"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(note, path.encode() + b"\\n")
            os.close(note)
if "RANK" in os.environ:
    sys.addaudithook(watch)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty pairs to train on, ten to validate on, and `recipe.toml`."""
    write_corpus(tmp_path)
    return tmp_path


def command(*words: str, processes: int = 2) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    return [
        *launcher,
        "-m",
        "seqkit",
        "train",
        "recipe.toml",
        "--out",
        "run",
        "--device",
        "cpu",
        "model.dropout=0",
        *words,
    ]


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with open(folder / "told", "w", encoding="utf-8") as told:
        return subprocess.Popen(
            command(*words), cwd=folder, env=own, stdout=told, stderr=told, text=True, start_new_session=True
        )


def finish(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("the job hangs") from None


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "status.json").read_text(encoding="utf-8"))
    return found


def weights(folder: Path) -> tuple[int, torch.Tensor]:
    found, warnings = checkpoint.newest(folder / "run" / "checkpoints")
    assert found is not None
    assert not warnings
    tensors = found.tensors("model")
    return found.step, torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def workers(process: subprocess.Popen[str]) -> dict[str, int]:
    """The processes that the launcher started, by rank."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = re.search(r"PPid:\t(\d+)", (entry / "status").read_text(encoding="utf-8"))
            variables = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, UnicodeDecodeError):
            continue
        if parent is not None and int(parent[1]) == process.pid:
            ranks = [variable[5:].decode() for variable in variables if variable.startswith(b"RANK=")]
            found |= {rank: int(entry.name) for rank in ranks}
    return found


def wait_for_step(folder: Path, process: subprocess.Popen[str], step: int) -> None:
    """Until a checkpoint of at least this step stands."""
    for _ in range(10 * LIMIT):
        if any(found >= step for found in checkpoint.steps(folder / "run" / "checkpoints")):
            return
        assert process.poll() is None, (folder / "told").read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError("nothing is saved")


def test_what_aborts_while_the_interpreter_is_taken_down_is_not_reached(folder: Path, tmp_path: Path) -> None:
    """As threads of the engine do at times, behind a complete run."""
    (tmp_path / "abort").mkdir()
    code = 'import atexit, os\nif "RANK" in os.environ:\n    atexit.register(os.abort)\n'
    (tmp_path / "abort" / "sitecustomize.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "abort"), os.environ.get("PYTHONPATH", "")])
    job = start(folder, "train.steps=2", PYTHONPATH=path)
    assert finish(job) == 0, (folder / "told").read_text(encoding="utf-8")
    assert status(folder)["state"] == "done"


@pytest.mark.parametrize(
    "special",
    [[], ["text.kind=sentencepiece", "text.size=300", "text.sampling=0.3"], ["train.sharded=true"]],
    ids=["plain", "text cut anew", "sharded"],
)
def test_two_processes_of_torchrun_train_what_one_trains_and_only_the_first_writes(
    folder: Path, tmp_path: Path, special: list[str]
) -> None:
    """Also where each of them cuts the text anew in every epoch, or has but a share of the parameters."""
    words = [*special, "train.steps=20", "train.validate_every=7"]
    (tmp_path / "watcher").mkdir()
    (tmp_path / "watcher" / "sitecustomize.py").write_text(WATCHER, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path / "watcher"), os.environ.get("PYTHONPATH", "")])
    job = start(folder, *words, PYTHONPATH=path, NOTES=str(tmp_path / "wrote-"))
    assert finish(job) == 0, (folder / "told").read_text(encoding="utf-8")
    two = weights(folder)
    assert status(folder)["state"] == "done"
    assert (tmp_path / "wrote-0").exists()
    assert not (tmp_path / "wrote-1").exists()
    losses = [event["loss"] for event in events(folder, "valid")]

    (folder / "run").rename(folder / "both")
    alone = subprocess.run(
        [sys.executable, *command("train.processes=1", *words)[6:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert alone.returncode == 0, alone.stderr
    one = weights(folder)
    assert one[0] == two[0] == 20
    torch.testing.assert_close(two[1], one[1], rtol=1e-4, atol=1e-6)
    assert losses == pytest.approx([event["loss"] for event in events(folder, "valid")], rel=1e-5)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.mark.parametrize(("rank", "sharded"), [("0", "false"), ("1", "false"), ("1", "true")])
def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(folder: Path, rank: str, sharded: str) -> None:
    words = ("train.save_every=5", "train.validate_every=100000", f"train.sharded={sharded}")
    job = start(folder, "train.steps=100000", *words)
    wait_for_step(folder, job, 5)
    os.kill(workers(job)[rank], signal.SIGKILL)
    assert finish(job) != 0
    step, _ = weights(folder)  # of a checkpoint that verifies
    resumed = start(folder, f"train.steps={step + 10}", *words)
    assert finish(resumed) == 0, (folder / "told").read_text(encoding="utf-8")
    assert weights(folder)[0] == step + 10
    assert status(folder)["state"] == "done"


def test_a_start_that_is_refused_ends_the_job_without_waiting(folder: Path) -> None:
    """The other process waits for the first where it hears no signal; torchrun would kill it after half a minute."""
    process = start(folder, 'data.train=["missing.{en,de}"]', "train.steps=4")
    assert finish(process) != 0
    told = (folder / "told").read_text(encoding="utf-8")
    assert "missing.en" in told
    assert "SIGKILL" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_stops_all_at_one_step_with_everything_saved(
    folder: Path, number: signal.Signals
) -> None:
    job = start(folder, "train.steps=100000", "train.save_every=5", "train.validate_every=100000")
    wait_for_step(folder, job, 5)
    job.send_signal(number)
    finish(job)
    found = status(folder)
    assert found["state"] == "stopped"
    assert weights(folder)[0] == found["step"]
