"""`run/model/`: a trained model by itself, as it is copied elsewhere, without the state of its training.

model/   recipe.toml   codec/   model.safetensors   manifest.json
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seqkit.errors import ModelError
from seqkit.files import read_plain, recover
from seqkit.storage.manifest import check, publish, read_tensors, write_tensors

__all__ = ["ModelFolder", "published_step", "read_model", "write_model"]

RECIPE = "recipe.toml"
CODEC = "codec"
WEIGHTS = "model.safetensors"
RECIPE_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class ModelFolder:
    """A verified stand-alone model; its weights are read on demand."""

    path: Path
    recipe: str  # TOML text
    codec: Path  # the folder of codec files
    facts: Mapping[str, Any]  # what the writer recorded in the manifest: step, score, ...

    def tensors(self) -> dict[str, Tensor]:
        """The named weights, on the CPU."""
        return read_tensors(self.path / WEIGHTS)


def write_model(
    final: Path, *, recipe: str, codec_folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]
) -> Path:
    """Publish the folder `final`, replacing an earlier one by rename: readers see the old one or the complete new one.

    `recipe`: TOML text; `codec_folder` is copied. Raises ResourceError when it cannot be written.
    """
    needed = len(recipe.encode()) + sum(tensor.nbytes for tensor in tensors.values())
    with publish(final, facts=facts, needed=needed) as partial:
        (partial / RECIPE).write_bytes(recipe.encode())
        shutil.copytree(codec_folder, partial / CODEC)
        write_tensors(partial / WEIGHTS, tensors)
    recover(final.parent, re.escape(final.name))  # clear up after a crash in an earlier replacement
    return final


def published_step(path: Path) -> int | None:
    """The training step of a stand-alone model's weights; None if there is no valid model."""
    try:
        step = read_model(path).facts.get("step")
    except ModelError:
        return None
    return step if isinstance(step, int) else None


def read_model(path: Path) -> ModelFolder:
    """Verify a stand-alone model and read its recipe. Raises ModelError saying what is wrong with it."""
    manifest = check(path)
    if not {RECIPE, WEIGHTS} <= manifest.names or not any(name.startswith(f"{CODEC}/") for name in manifest.names):
        raise ModelError(f"{path} is not a model folder", f"it must hold {RECIPE}, {CODEC}/ and {WEIGHTS}")
    try:
        recipe = read_plain(path / RECIPE, limit=RECIPE_LIMIT).decode()
    except (OSError, UnicodeDecodeError):
        raise ModelError(f"{path / RECIPE} is damaged") from None
    return ModelFolder(path, recipe, path / CODEC, manifest.facts)
