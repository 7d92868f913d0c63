"""torch's optimizers, chosen by settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import assert_never

import torch
from torch import nn

from seqkit.parallel.processes import Processes
from seqkit.parallel.shards import is_sharded
from seqkit.settings import SGD, Adam, AdamW, AveragedSGD, Muon, Optimizer, RMSprop
from seqkit.training import muon

__all__ = ["build_optimizers", "set_rates"]


def build_optimizers(
    settings: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    *,
    rate: float,
    matrices: Collection[str],
    processes: Processes | None = None,
    fused: bool = True,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a run; `matrices` names the hidden matrices, which Muon treats apart and shares out.

    Each group remembers its base rate under "base", for `set_rates`. torch's kernels for all weights at once
    are used where they exist, unless `fused` is False: on a CPU they are several times faster than its loops.
    """
    kernels = True if fused else None  # None: what torch would take by itself
    everything = list(parameters.values())
    optimizers: list[torch.optim.Optimizer]
    match settings:
        case AdamW():
            optimizers = [_adamw(everything, rate, settings.betas, settings.weight_decay, kernels)]
        case Adam():
            optimizers = [torch.optim.Adam(everything, lr=rate, betas=settings.betas, fused=kernels)]
        case SGD():
            optimizers = [
                torch.optim.SGD(
                    everything,
                    lr=rate,
                    momentum=settings.momentum,
                    weight_decay=settings.weight_decay,
                    fused=None if any(map(is_sharded, everything)) else kernels,  # torch has none for shares
                )
            ]
        case AveragedSGD():
            optimizers = [torch.optim.SGD(everything, lr=rate, weight_decay=settings.weight_decay, fused=kernels)]
        case RMSprop():
            optimizers = [
                torch.optim.RMSprop(everything, lr=rate, alpha=settings.smoothing, momentum=settings.momentum)
            ]
        case Muon():
            hidden = [parameter for name, parameter in parameters.items() if name in matrices]
            others = [parameter for name, parameter in parameters.items() if name not in matrices]
            optimizers = [
                muon.Muon(
                    hidden,
                    lr=settings.rate,
                    momentum=settings.momentum,
                    iterations=settings.iterations,
                    weight_decay=settings.weight_decay,
                    processes=processes,
                ),
                _adamw(others, rate, settings.betas, settings.weight_decay, kernels),
            ]
        case _:
            assert_never(settings)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base"] = group["lr"]
    return optimizers


def set_rates(optimizers: Collection[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times its base rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor


def _adamw(
    parameters: list[nn.Parameter], rate: float, betas: tuple[float, float], decay: float, kernels: bool | None
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=decay, fused=kernels)
