"""The mean of several checkpoints of a run as a model of its own (Vaswani et al., 2017, section 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from seqkit import config
from seqkit.errors import ConfigError, ModelError
from seqkit.storage import checkpoint
from seqkit.storage.model_folder import write_model

__all__ = ["average"]


def average(run: Path, out: Path, *, last: int | None = None, steps: Sequence[int] = ()) -> list[int]:
    """Write the mean of a run's weights at some steps to the model folder `out`; which steps these were.

    The `last` so many checkpoints, or those of the given steps, else all that the run has kept. Raises ModelError for a
    folder without checkpoints, for one that is damaged or missing; ConfigError if `out` is there or too few are left.
    """
    folder = run / "checkpoints"
    there = checkpoint.steps(folder)
    if not there:
        raise ModelError(f"{run} has no checkpoints", "give the folder of a run, which `seqkit train` wrote")
    if out.exists():
        raise ConfigError(f"{out} exists", "choose another -o")
    chosen = sorted(set(steps)) if steps else there[-last:] if last is not None else there
    if missing := [step for step in chosen if step not in there]:
        raise ModelError(f"{run} has no checkpoint of step {missing[0]}", f"it has {', '.join(map(str, there))}")
    if len(chosen) < (last or 2):
        raise ConfigError(
            f"{run} has kept {len(there)} checkpoints ({', '.join(map(str, there))})",
            "train.keep says how many a run keeps; the mean of one is the model itself",
        )
    sums: dict[str, Tensor] = {}
    for step in chosen:
        tensors = checkpoint.read(checkpoint.step_path(folder, step)).tensors("model")
        for name, tensor in tensors.items():
            # Summed in float64: the mean of equal numbers is that number.
            value = tensor.to(torch.float64) if tensor.is_floating_point() else tensor
            sums[name] = sums[name] + value if name in sums and tensor.is_floating_point() else value
        kinds = {name: tensor.dtype for name, tensor in tensors.items()}
    means = {
        name: (total / len(chosen)).to(kinds[name]) if total.is_floating_point() else total
        for name, total in sums.items()
    }
    recipe = config.dump(config.load(run / "recipe.toml"))
    facts: dict[str, object] = {"step": chosen[-1], "score": None, "metric": None, "mean_of": chosen}
    write_model(out, recipe=recipe, codec_folder=run / "codec", tensors=means, facts=facts)
    return chosen
