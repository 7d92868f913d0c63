"""Attempts at a run in processes of their own, which may be made to die at a chosen moment, and what must be left."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from seqkit.demo import reverse
from seqkit.storage import checkpoint

# Torch takes seconds to import: one process does it once, and every attempt is a fork of that one.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["seqkit.runs.session", "seqkit.cli.train_command", "torch._dynamo", "sacrebleu"])
PATIENCE = 200.0  # seconds for an attempt that takes one

# What a process does to files, as Python tells its audit hooks of it; `open` counts where it may write.
MOMENTS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"})

RECIPE = """\
name = "toy"
[data]
train = ["train.tsv"]
dev = ["dev.tsv"]
[text]
kind = "words"
[model]
kind = "transformer"
width = 16
heads = 2
feed_forward = 16
encoder_layers = 1
decoder_layers = 1
dropout = 0.1
[train]
batch_tokens = 60
processes = 1
precision = "float32"
output_precision = "float32"
keep_heap = false
average = 0.9
learning_rate = 0.01
metric = "loss"
[train.schedule]
kind = "inverse_square_root"
warmup = 10
"""


def write_corpus(folder: Path) -> None:
    """Sixty pairs to train on, ten to validate on, and `recipe.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = reverse(70, seed=1)
    for name, part in (("train", pairs[:60]), ("dev", pairs[60:])):
        rows = "".join(f"{source}\t{target}\n" for source, target in part)
        (folder / f"{name}.tsv").write_text(rows, encoding="utf-8")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: as its parent sees it, what it told, and how often it touched a file."""

    code: int  # of exit; the negative number of the signal that killed it
    told: str
    moments: int


def attempt(folder: Path, *words: str, die_at: int | None = None, before: Callable[[], Any] | None = None) -> Ending:
    """Run `seqkit WORDS` in the folder, as another process; it dies before it touches a file for the `die_at`-th time.

    `before` is called in that process first; it must be a function of a module.
    """
    process = begin(folder, *words, die_at=die_at, before=before)
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"seqkit {' '.join(words)} hangs: {(folder / 'told').read_text(encoding='utf-8')}")
    told = (folder / "told").read_text(encoding="utf-8")
    moments = folder / "moments"
    return Ending(process.exitcode, told, int(moments.read_text()) if process.exitcode == 0 else die_at or 0)


def begin(folder: Path, *words: str, die_at: int | None = None, before: Callable[[], Any] | None = None) -> BaseProcess:
    """Start what `attempt` waits for, in a process group of its own."""
    process = CONTEXT.Process(target=_attempt, args=(folder, words, die_at, before))
    process.start()
    return process


def _attempt(folder: Path, words: tuple[str, ...], die_at: int | None, before: Callable[[], Any] | None) -> None:
    from seqkit.cli.main import main

    os.setsid()
    os.chdir(folder)
    told = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.dont_write_bytecode = True
    os.environ.pop("SEQKIT_FAULT", None)
    torch.set_num_threads(1)
    if before is not None:
        before()
    passed = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal passed
        if event not in MOMENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        elsewhere = os.path.isabs(path) and not Path(path).is_relative_to(folder)
        reading = event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if elsewhere or reading:
            return
        passed += 1
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    code = main(list(words))
    count = passed
    Path("moments").write_text(str(count))
    sys.stderr.flush()
    os._exit(code)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name; folders too, as nothing."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def newest(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of the newest checkpoint, and where the run stood, but for the time that it took."""
    found, warnings = checkpoint.newest(run / "checkpoints")
    assert found is not None
    assert warnings == []
    tensors = {f"{stem}/{name}": tensor for stem in found.stems for name, tensor in found.tensors(stem).items()}
    return tensors, {**found.training, "progress": {**found.training["progress"], "seconds": None}}


def assert_same_end(run: Path, straight: Path) -> None:
    """Two complete runs hold the same files, and the same in them but for times, hosts and counts of attempts."""
    timed = re.compile(
        r"checkpoints/step-\d+/(manifest|training)\.json|log\.jsonl|samples\.tsv|status\.json|train\.log"
    )
    one, two = files(run), files(straight)
    assert sorted(one.keys() - {"train.log"}) == sorted(two.keys() - {"train.log"})
    assert [name for name in one if not timed.fullmatch(name) and one[name] != two.get(name)] == []
    assert {*one["samples.tsv"].splitlines()} == {*two["samples.tsv"].splitlines()}  # a death may repeat some
    (tensors, facts), (expected, wanted) = newest(run), newest(straight)
    assert facts == wanted
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []
    assert json.loads(one["status.json"])["state"] == "done"
    log = events(run)
    assert log[-1]["event"] == "end"
    assert scores(log) == scores(events(straight))


def scores(log: list[dict[str, Any]]) -> set[tuple[int, float]]:
    """What every validation found."""
    return {(line["step"], line["loss"]) for line in log if line["event"] == "valid"}


def events(run: Path) -> list[dict[str, Any]]:
    """The lines of the log, every one of which must parse; attempts never go back, nor steps within one."""
    content = (run / "log.jsonl").read_bytes()
    assert content.endswith(b"\n")
    found = [msgspec.json.decode(line, type=dict[str, Any]) for line in content.splitlines()]
    attempts = [line["attempt"] for line in found]
    assert attempts == sorted(attempts)
    for number in set(attempts):
        steps = [line["step"] for line in found if line["attempt"] == number and line["event"] == "step"]
        assert steps == sorted(set(steps))
    return found


def assert_nothing_broken(run: Path) -> None:
    """Whatever stands under its own name after a death is whole: readers need not know of it."""
    for path in (run / "checkpoints").glob("step-*"):
        assert path.suffix == ".tmp" or checkpoint.verify(path) is None
    best = checkpoint.best(run / "checkpoints")
    if best is not None:
        path = checkpoint.step_path(run / "checkpoints", best.step)
        assert path.is_dir() or list(path.parent.glob(f".{path.name}.*.old"))
