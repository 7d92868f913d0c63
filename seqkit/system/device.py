"""Devices by name: the CPU, or an available GPU."""

from __future__ import annotations

import os
import re

import torch

from seqkit.errors import ConfigError

__all__ = ["CPU", "device_of"]

CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """The device of a name such as `cpu` or `cuda:1`; `auto` is the GPU if there is one, else the CPU.

    For a GPU, TF32 is switched off, so that float32 is exact. Raises ConfigError for any other name and for a GPU that
    is not available.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):  # torch has more names, and fails late for missing devices
        raise ConfigError(f"unknown device {name[:40]!r}", "use auto, cpu, cuda or cuda:1")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError("this torch sees no GPU", "use --device cpu, or install torch for your GPU")
    if device.index is None:  # each of several processes uses another GPU
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(f"there is no device {device}", f"the last one is cuda:{count - 1}")
    # By default cuDNN rounds float32 to a mantissa of ten bits; only train.precision may choose less than float32.
    torch.backends.cudnn.allow_tf32 = False
    return device
