"""Laws of checkpoints: whole or absent, damage is found and passed over, pruning never takes the last good one."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqkit.errors import ModelError, ResourceError
from seqkit.files import fault_point
from seqkit.storage import checkpoint

WEIGHTS = {"model": {"w": torch.arange(600.0).reshape(20, 30)}, "optimizer": {"w/exp_avg": torch.ones(20, 30)}}

# One process for all fault points: each child dies by SIGKILL at its own.
CRASH = """
import os, sys
from pathlib import Path
import torch
from seqkit.storage import checkpoint
for point in sys.argv[2:]:
    if os.fork() == 0:
        folder = Path(sys.argv[1]) / point
        for step in range(10, 40, 10):
            checkpoint.save(folder, step, tensors={"model": {"w": torch.ones(50)}}, training={}, codec="c")
        os.environ["SEQKIT_FAULT"] = point
        checkpoint.save(folder, 30, tensors={"model": {"w": torch.zeros(50)}}, training={"again": True}, codec="c")
        checkpoint.save(folder, 40, tensors={"model": {"w": torch.ones(50)}}, training={}, codec="c")
        checkpoint.prune(folder, 1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(folder, step, tensors=WEIGHTS, training={"step": step, "rng": [1, 2]}, codec="abc")


def truncate(path: Path) -> None:
    weights = path / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def flip(path: Path) -> None:
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)


def newer(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({"format": 3, "seqkit": "1.4", "files": {"another": "layout"}}))
    assert manifest["format"] == 1


DAMAGE: dict[str, Callable[[Path], object]] = {
    "size": truncate,
    "damaged (size": lambda path: (path / "model.safetensors").write_bytes(b""),
    "checksum": flip,
    "manifest.json is missing": lambda path: (path / "manifest.json").unlink(),
    "optimizer.safetensors is missing": lambda path: (path / "optimizer.safetensors").unlink(),
    "manifest.json is damaged": lambda path: (path / "manifest.json").write_bytes(b'{"format": 1'),
    "training.json is damaged": lambda path: (path / "training.json").write_bytes(b"[1]" * 9),
}


def test_round_trip(tmp_path: Path) -> None:
    tensors = WEIGHTS | {
        "average": {},
        "other": {
            "half": torch.ones(3, dtype=torch.bfloat16),
            "scalar": torch.tensor(7),
            "turned": torch.eye(3)[:, :2],
        },
    }
    facts = {"best": float("-inf"), "state": 2**127, "text": "ä\u2028", "rate": 0.1}
    path = checkpoint.save(tmp_path / "checkpoints", 1200, tensors=tensors, training=facts, codec="abc")
    assert path == tmp_path / "checkpoints" / "step-00001200"
    assert checkpoint.verify(path) is None
    found = checkpoint.read(path)
    assert (found.step, found.codec) == (1200, "abc")
    assert found.stems == {"model", "optimizer", "other"}
    assert found.training == facts | {"best": None}
    for stem in found.stems:
        loaded = found.tensors(stem)
        assert loaded.keys() == tensors[stem].keys()
        for name, tensor in loaded.items():
            assert tensor.dtype == tensors[stem][name].dtype
            assert torch.equal(tensor, tensors[stem][name])
    with pytest.raises(ModelError, match=r"no average\.safetensors"):
        found.tensors("average")


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 5)
    checkpoint.save(tmp_path, 5, tensors=WEIGHTS, training={"validated": True}, codec="abc")
    assert checkpoint.read(checkpoint.step_path(tmp_path, 5)).training == {"validated": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000005"]


@pytest.mark.parametrize("full", ["limit", "preflight"])
def test_full_disk_keeps_the_old_one(tmp_path: Path, full: str) -> None:
    first = save(tmp_path, 1)
    size = (first / "model.safetensors").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if full == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (size * 6 // 10, hard))
        minimum = 0 if full == "limit" else 1 << 60
        with pytest.raises(ResourceError, match=r"step-00000002.*needed.*free\)") as caught:
            checkpoint.save(tmp_path, 2, tensors=WEIGHTS, training={}, codec="abc", minimum_free=minimum)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in caught.value.what
    assert "step 1" in (caught.value.hint or "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.verify(first) is None


@pytest.mark.parametrize("problem", DAMAGE)
def test_damaged_newest_is_passed_over(tmp_path: Path, problem: str) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    DAMAGE[problem](checkpoint.step_path(tmp_path, 3))
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 2
    assert len(warnings) == 1
    assert "step-00000003" in warnings[0]
    assert problem in warnings[0]


def test_impostors_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 3)
    (tmp_path / "step-00009998").mkdir()
    (tmp_path / "step-00009999").touch()
    save(tmp_path, 4).rename(tmp_path / "step-00009997")
    (tmp_path / "step-00000011.tmp").mkdir()
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert len(warnings) == 3


def test_none_left_and_none_ever(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "absent") == (None, [])
    assert checkpoint.newest(tmp_path) == (None, [])
    for step in (1, 2):
        flip(save(tmp_path, step))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=r"no good checkpoint left.*step-00000002/model") as caught:
        checkpoint.newest(tmp_path)
    assert caught.value.exit_code == 4
    assert checkpoint.prune(tmp_path, 1) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_newer_format_is_not_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1)
    newer(save(tmp_path, 2))
    assert "written by seqkit 1.4 (format 3)" in (checkpoint.verify(checkpoint.step_path(tmp_path, 2)) or "")
    with pytest.raises(ModelError, match=r"seqkit 1\.4"):
        checkpoint.newest(tmp_path)


def test_order_of_durability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def recording_fsync(descriptor: int) -> None:
        calls.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def recording_rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "rename", recording_rename)
    folder = tmp_path / "checkpoints"
    save(folder, 7)
    manifest, published = calls.index(("sync", "manifest.json")), calls.index(("rename", "step-00000007"))
    data = {("sync", name) for name in ("model.safetensors", "optimizer.safetensors", "training.json")}
    assert data <= set(calls[:manifest])
    assert ("sync", "step-00000007.tmp") in calls[manifest:published]
    assert calls[published + 1 :] == [("sync", "checkpoints")]
    assert calls[0] == ("sync", tmp_path.name)  # the new folder's own name


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_modes_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    old = os.umask(mask)
    try:
        path = save(tmp_path, 1)
        checkpoint.mark_best(tmp_path, 1, score=1.0, metric="bleu")
    finally:
        os.umask(old)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in [*path.iterdir(), tmp_path / "best.json"]}
    assert len(modes) == 5
    assert set(modes.values()) == {mode}, modes


def test_pruning_keeps_newest_and_best(tmp_path: Path) -> None:
    for step in range(5, 55, 5):
        save(tmp_path, step)
        if step == 15:
            checkpoint.mark_best(tmp_path, step, score=9.0, metric="bleu")
        checkpoint.prune(tmp_path, 2)
        assert step in checkpoint.steps(tmp_path)
    assert checkpoint.steps(tmp_path) == [15, 45, 50]


def test_pruning_keeps_the_newest_good_one_and_cleans(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step)
    flip(checkpoint.step_path(tmp_path, 4))
    flip(checkpoint.step_path(tmp_path, 3))
    (tmp_path / "step-00000009.tmp").mkdir()
    assert checkpoint.prune(tmp_path, 1) == [1, 3]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-00000002", "step-00000004"]


def test_open_checkpoint_outlives_its_pruning(tmp_path: Path) -> None:
    save(tmp_path, 1)
    tensors = checkpoint.read(checkpoint.step_path(tmp_path, 1)).tensors("model")
    save(tmp_path, 2)
    assert checkpoint.prune(tmp_path, 1) == [1]
    assert torch.equal(tensors["w"], WEIGHTS["model"]["w"])


def test_best(tmp_path: Path) -> None:
    assert checkpoint.best(tmp_path) is None
    for step, score in enumerate((float("nan"), 3.0, float("nan"), float("inf"))):
        checkpoint.mark_best(tmp_path, step, score=score, metric="chrf")
    assert checkpoint.best(tmp_path) == checkpoint.Best(1, 3.0, "chrf")
    (tmp_path / "best.json").write_bytes(b"{")
    with pytest.raises(ModelError, match=r"best\.json is damaged"):
        checkpoint.best(tmp_path)


def test_whatever_the_moment_of_death(tmp_path: Path) -> None:
    points = ["before-write", "after-model", "before-manifest", "before-rename", "after-rename", "mid-prune"]
    answer = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path), *points], capture_output=True, text=True, check=True
    )
    assert [int(word) for word in answer.stdout.split()] == [-signal.SIGKILL] * len(points), answer.stderr
    for point in points:
        folder = tmp_path / point
        checkpoint.clean(folder)
        found, warnings = checkpoint.newest(folder)
        assert found is not None
        assert not warnings
        again = {"again": True}
        assert (found.step, found.training) == {"after-rename": (30, again), "mid-prune": (40, {})}.get(point, (30, {}))
        assert not [entry for entry in folder.iterdir() if not entry.name.startswith("step-") or "tmp" in entry.name]


def test_death_between_the_renames_of_a_replacement(tmp_path: Path) -> None:
    save(tmp_path, 8).rename(tmp_path / ".step-00000008.4242.old")
    checkpoint.clean(tmp_path)
    found, warnings = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 8
    assert not warnings


def test_faults_need_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQKIT_FAULT", "mid-prune")
    fault_point("before-write")  # still alive
