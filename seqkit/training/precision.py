"""In which arithmetic a recipe is trained on a device."""

from __future__ import annotations

from typing import NamedTuple

import torch

from seqkit.settings import NGram, Recipe
from seqkit.settings.automatic import NARROWEST_BFLOAT16
from seqkit.system.host import fast_bfloat16

__all__ = ["Precision", "precision_of", "set_float32"]


class Precision(NamedTuple):
    """The arithmetic of a training step."""

    layers: torch.dtype = torch.float32
    output: torch.dtype | None = None  # of the output layer's products; None: the tensors' own
    byte_dropout: bool = True  # on a CPU, dropout by one random byte an element


def precision_of(recipe: Recipe, device: torch.device) -> Precision:
    """What `train.precision`, `train.output_precision` and `train.cheap_dropout` stand for on a device."""
    settings, model = recipe.train, recipe.model
    gpu = device.type == "cuda"
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else fast_bfloat16()
    wide = gpu or (not isinstance(model, NGram) and model.width >= NARROWEST_BFLOAT16)
    layers = settings.precision == "bfloat16" or (settings.precision == "auto" and fast and wide)
    output = settings.output_precision == "bfloat16" or (settings.output_precision == "auto" and fast)
    return Precision(
        torch.bfloat16 if layers else torch.float32, torch.bfloat16 if output else None, settings.cheap_dropout
    )


def set_float32(recipe: Recipe, device: torch.device) -> None:
    """How this process makes products of float32 on a GPU: exactly, or with TF32's ten bits where that is wanted.

    Where the layers are in bfloat16 the recurrent ones stay in float32, and need no more bits than the others.
    """
    if device.type == "cuda":
        rounded = recipe.train.precision == "tf32"
        torch.set_float32_matmul_precision("high" if rounded else "highest")
        torch.backends.cudnn.allow_tf32 = rounded or precision_of(recipe, device).layers == torch.bfloat16
