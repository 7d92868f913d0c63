"""What an attempt at a run says of itself as it begins: to people, to the display and to the log."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import msgspec
import torch

from seqkit.parallel.shards import local_shard
from seqkit.runs.folder import Change
from seqkit.runs.setup import ProcessContext
from seqkit.storage.checkpoint import Checkpoint
from seqkit.storage.manifest import format_size
from seqkit.training.precision import precision_of
from seqkit.training.reporting import About
from seqkit.training.trainer import Trainer

__all__ = ["about_of", "facts_of", "summary_of"]


def about_of(context: ProcessContext) -> About:
    """What a display says of a run besides its numbers."""
    settings = context.recipe.train
    precision = precision_of(context.recipe, context.device)
    words = "bf16" if precision.layers == torch.bfloat16 else "fp32"
    if settings.precision == "tf32" and context.device.type == "cuda":
        words = "tf32"
    if precision.output == torch.bfloat16 and precision.layers != torch.bfloat16:
        words += ", bf16 output"
    world = context.processes.world
    return About(
        run=str(context.run),
        model=msgspec.to_builtins(context.recipe.model)["kind"],
        device=f"{context.device.type} x{world}" if world > 1 else context.device.type,
        precision=words,
        metric=settings.metric,
        epochs=settings.epochs,
        minutes=settings.minutes,
    )


def summary_of(
    context: ProcessContext, trainer: Trainer, start: Checkpoint | None, used: int, changes: Sequence[Change]
) -> list[str]:
    """What is going to happen, for people: `used` is the memory in bytes that the largest batch took."""
    task, settings, model = context.task, context.recipe.train, trainer.objective.model
    size = sum(parameter.numel() for parameter in model.parameters())
    groups, about = trainer.stream.count(0), about_of(context)
    lines = [
        f"data: {task.summary}",
        *(f"      {note}" for note in task.notes),
        f"text: {context.recipe.text.__class__.__name__}, {len(task.codecs.target)} tokens"
        + (", joint" if task.codecs.joint and context.recipe.data.purpose == "translation" else ""),
        f"model: {about.model}, {size:,} parameters",
        f"batches: {settings.budget} target tokens x {settings.accumulate}, {groups} steps an epoch",
        f"device: {about.device}, {torch.get_num_threads()} threads a process, {about.precision}",
        f"memory: {format_size(used)} a process after the largest batch, {_room(context)}",
    ]
    lines += [f"changed since: {key} = {old} -> {new}" for key, old, new in changes]
    if context.sharded:
        share = sum(local_shard(parameter).numel() for parameter in model.parameters())
        lines.append(f"sharded: {share:,} parameters on this process, the whole model while it validates")
    if start is not None:
        lines.insert(0, f"resuming {context.run} at step {start.step} (epoch {trainer.progress.epoch + 1})")
    return lines


def _room(context: ProcessContext) -> str:
    free = shutil.disk_usage(context.run).free
    if context.device.type != "cuda":
        return f"{format_size(free)} free on the disk"
    total = torch.cuda.get_device_properties(context.device).total_memory
    return f"of {format_size(total)}; {format_size(free)} free on the disk"


def facts_of(
    context: ProcessContext, trainer: Trainer, start: Checkpoint | None, changes: Sequence[Change]
) -> dict[str, object]:
    """What the log says of the beginning of an attempt."""
    return {
        "step": trainer.progress.step,
        "torch": torch.__version__,
        "device": context.device.type,
        "world": context.processes.world,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in trainer.objective.parameters()),
        "data": context.task.fingerprint,
        "codec": context.task.codecs.target.fingerprint,
        "from": None if start is None else start.path.name,
        "changed": {key: [old, new] for key, old, new in changes},
    }
