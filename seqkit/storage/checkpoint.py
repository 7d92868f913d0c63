"""Checkpoints: everything that training needs to resume, one sealed folder for each saved step.

    checkpoints/step-00001200/   model.safetensors  average.safetensors  optimizer.safetensors
                                 training.json  manifest.json
    checkpoints/best.json        step, score and metric of the best one

A folder counts as a checkpoint only if its manifest verifies; no link names the latest. Only the process that holds
the run's lock writes here.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from seqkit.errors import ModelError, ResourceError
from seqkit.files import fault_point, read_plain, recover, remove, replace_file
from seqkit.storage.manifest import NewerFormatError, check, publish, read_tensors, write_tensors

__all__ = [
    "BEST",
    "Best",
    "Checkpoint",
    "best",
    "clean",
    "mark_best",
    "newest",
    "prune",
    "read",
    "save",
    "step_path",
    "steps",
    "verify",
]

TRAINING = "training.json"
BEST = "best.json"
SUFFIX = ".safetensors"
LARGEST_TRAINING = 1 << 26  # bytes: the state of the generators and of the optimizer, without tensors
LARGEST_BEST = 1 << 16


class _Facts(msgspec.Struct, frozen=True):
    step: int
    codec: str


class Best(msgspec.Struct, frozen=True):
    """Which step scored best on the development set, and how."""

    step: int
    score: float
    metric: str


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; its tensors are read on demand."""

    path: Path
    step: int
    training: Mapping[str, Any]  # the facts given to `save`, as JSON gives them back: tuples are lists
    codec: str  # fingerprint of the codec that the weights belong to
    stems: frozenset[str]  # names of its tensor files without suffix: "model", "average", "optimizer"

    def tensors(self, stem: str) -> dict[str, Tensor]:
        """The named tensors of one file, on the CPU. Raises ModelError if the checkpoint has none of that name."""
        if stem not in self.stems:
            raise ModelError(f"{self.path} has no {stem}{SUFFIX}", f"it has {', '.join(sorted(self.stems))}")
        return read_tensors(self.path / f"{stem}{SUFFIX}")


def step_path(folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint, whether it exists or not."""
    return folder / f"step-{step:08d}"


def save(
    folder: Path,
    step: int,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, object],
    codec: str,
    minimum_free: int = 0,
) -> Path:
    """Write the checkpoint of `step` atomically: after a power failure at any instant it is complete or absent.

    `tensors`: file stem -> named tensors, each storage once; stems without tensors get no file. `training`: facts that
    JSON can hold; numbers that are not finite are read back as None. `minimum_free`: bytes to leave on the disk.
    Raises ResourceError, naming bytes needed and free, when it cannot be written; earlier checkpoints stay as they are.
    """
    facts = msgspec.json.encode(training)
    needed = len(facts) + sum(tensor.nbytes for named in tensors.values() for tensor in named.values())
    sealed = {"step": step, "codec": codec}
    final = step_path(folder, step)
    try:
        with publish(final, facts=sealed, needed=needed, reserve=minimum_free) as partial:
            (partial / TRAINING).write_bytes(facts)
            for stem, named in tensors.items():
                if named:
                    write_tensors(partial / f"{stem}{SUFFIX}", named)
                if stem == "model":
                    fault_point("after-model")
    except ResourceError as error:
        last = steps(folder)
        hint = f"free some space; the last checkpoint is step {last[-1]}" if last else error.hint
        raise ResourceError(error.what, hint) from error
    return final


def read(path: Path) -> Checkpoint:
    """Verify a checkpoint and read its facts. Raises ModelError saying what is wrong with it."""
    manifest = check(path)
    try:
        facts = msgspec.convert(manifest.facts, type=_Facts)
    except msgspec.ValidationError:
        raise ModelError(f"{path.name} is not a checkpoint") from None
    if path.name != step_path(path.parent, facts.step).name:
        raise ModelError(f"{path.name} holds step {facts.step}", "give the folder its own name back")
    if TRAINING not in manifest.names:
        raise ModelError(f"{path.name}/{TRAINING} is missing")
    try:
        facts_of_training = read_plain(path / TRAINING, limit=LARGEST_TRAINING)
        training = msgspec.json.decode(facts_of_training, type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{path.name}/{TRAINING} is damaged") from None
    stems = frozenset(name.removesuffix(SUFFIX) for name in manifest.names if name.endswith(SUFFIX))
    return Checkpoint(path, facts.step, training, facts.codec, stems)


def verify(path: Path) -> str | None:
    """What is wrong with a checkpoint, in one line; None when it is good."""
    try:
        read(path)
    except ModelError as error:
        return error.what
    return None


def steps(folder: Path) -> list[int]:
    """The steps of all checkpoint folders, ascending; none of them is verified."""
    if not folder.is_dir():
        return []
    matches = (re.fullmatch(r"step-(\d{8}|[1-9]\d{8,17})", entry.name, re.ASCII) for entry in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint (None in a folder without any), and a warning for each damaged one skipped.

    Raises ModelError when all checkpoints are damaged, or when a newer seqkit wrote one: resuming from an older one
    would discard its work.
    """
    problems: list[str] = []
    for step in reversed(steps(folder)):
        try:
            checkpoint = read(step_path(folder, step))
        except NewerFormatError:
            raise
        except ModelError as error:
            problems.append(error.what)
        else:
            return checkpoint, [f"{problem}; using {checkpoint.path.name}" for problem in problems]
    if problems:
        hint = "put a good copy back, or start anew with --overwrite"
        raise ModelError(f"no good checkpoint left in {folder}: {problems[0]}", hint)
    return None, []


def mark_best(folder: Path, step: int, *, score: float, metric: str) -> None:
    """Record `step` as the best so far; a score that is not finite is never the best and changes nothing."""
    if math.isfinite(score):
        replace_file(folder / BEST, msgspec.json.encode(Best(step, float(score), metric)) + b"\n")


def best(folder: Path) -> Best | None:
    """Which checkpoint is the best; None if none is marked. Raises ModelError if `best.json` is damaged."""
    path = folder / BEST
    try:
        return msgspec.json.decode(read_plain(path, limit=LARGEST_BEST), type=Best)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ModelError(f"{path} is damaged", "delete it; the newest checkpoint then counts as the best") from None


def clean(folder: Path) -> None:
    """Clear up after a crash: delete half-written and half-deleted folders.

    A checkpoint whose replacement stopped between its two renames is put back. Call it with the run's lock held, before
    `newest`.
    """
    recover(folder, rf"step-\d+|{re.escape(BEST)}")
    for entry in folder.glob("step-*.tmp"):
        remove(entry)


def prune(folder: Path, keep: int) -> list[int]:
    """Delete all but the newest `keep` checkpoints, the best and the newest undamaged one; returns the deleted steps.

    A folder is renamed before it is deleted, so that a half-deleted one is never taken for a checkpoint. A folder that
    cannot be deleted stays until the next call.
    """
    clean(folder)
    present = steps(folder)
    kept = set(present[max(0, len(present) - keep) :])
    marked = best(folder)
    if marked:
        kept.add(marked.step)
    if kept.issuperset(present):
        return []
    undamaged = next((step for step in reversed(present) if verify(step_path(folder, step)) is None), None)
    if undamaged is None:  # no checkpoint to resume from: delete nothing
        return []
    kept.add(undamaged)
    deleted = []
    for step in present:
        if step not in kept:
            path = step_path(folder, step)
            with contextlib.suppress(OSError):
                renamed = path.rename(path.with_name(f"{path.name}.tmp"))
                fault_point("mid-prune")
                remove(renamed)
                deleted.append(step)
    return deleted
