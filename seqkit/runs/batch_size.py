"""`train.batch_tokens = "auto"`: the most tokens a batch whose largest batch fits the device, found by trying.

A batch is tried as training begins: read forward and backward once. The number is written into the run's recipe, so
that the run goes on with it wherever it is resumed.
"""

from __future__ import annotations

import dataclasses

import msgspec
import torch

from seqkit.errors import ConfigError, ResourceError, SeqkitError
from seqkit.parallel.processes import Processes
from seqkit.runs.network import build_model, recipe_optimizers
from seqkit.settings import Recipe
from seqkit.system.host import memory
from seqkit.tasks import Task
from seqkit.training.memory import free, peak
from seqkit.training.trainer import Trainer

__all__ = ["find_batch_size"]

# Beyond the last nothing is gained on a GPU; on a CPU beyond 4,096, which is what all measurements here were made with.
LADDER = (512, 1024, 2048, 4096, 8192, 16384, 32768)
MOST = {"cpu": 4096, "cuda": 32768}
SHARE = 0.8  # of the memory that may be used: batches to come differ in shape, and a GPU's memory crumbles


def find_batch_size(recipe: Recipe, task: Task, device: torch.device, world: int) -> Recipe:
    """The recipe with a number for `train.batch_tokens`, for `world` processes. Raises ResourceError if none fits."""
    if recipe.train.batch_tokens != "auto":
        return recipe
    best: Recipe | None = None
    problem: SeqkitError | None = None
    room = _room(device, world)
    for tokens in (step for step in LADDER if step <= MOST.get(device.type, LADDER[-1])):
        candidate = _with(recipe, tokens)
        try:
            used = _used(candidate, dataclasses.replace(task, recipe=candidate), device, world)
        except ConfigError as error:  # a longer example than this budget allows
            problem = error
            continue
        except ResourceError as error:
            problem = problem or error
            break
        if room is not None and used > SHARE * room and best is not None:
            break
        best = candidate
    if best is None:
        raise problem or ResourceError("no batch fits in memory", "use a smaller model")
    return best


def _with(recipe: Recipe, tokens: int) -> Recipe:
    return msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, batch_tokens=tokens))


def _room(device: torch.device, world: int) -> int | None:
    """The bytes that one process may come to use; None where nobody knows."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    available = memory().available
    return None if available is None else peak(device) + available // world


def _used(recipe: Recipe, task: Task, device: torch.device, world: int) -> int:
    """The most bytes that a process has used when it has read its part of the largest batch."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = build_model(recipe, task.codecs).to(device)
    processes = Processes(0, world)
    trainer = Trainer(
        objective=task.objective(model, device),
        optimizers=recipe_optimizers(recipe.train, model),
        schedule=recipe.train.schedule,
        stream=task.stream(processes),
        callbacks=[],
        seed=recipe.train.seed,
        clip=recipe.train.clip,
        processes=processes,
        device=device,
    )
    used = trainer.rehearse()
    # What optimizers keep, they make at their first step: twice the weights at the most.
    kept = 2 * sum(parameter.nbytes for parameter in model.parameters())
    del trainer, model
    free(device)
    return used + kept
