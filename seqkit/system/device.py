"""Devices by name: the CPU, or a GPU that is there."""

from __future__ import annotations

import os
import re

import torch

from seqkit.errors import ConfigError

__all__ = ["CPU", "device_of"]

CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """`auto` is the GPU if there is one. Raises ConfigError for what is neither the CPU nor a GPU that is there.

    On a GPU float32 is exact afterwards.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):  # torch knows many more, and fails late where they are not
        raise ConfigError(f"unknown device {name[:40]!r}", "use auto, cpu, cuda or cuda:1")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError("this torch sees no GPU", "use --device cpu, or install torch for your GPU")
    if device.index is None:  # of several processes each has its own
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.index >= (count := torch.cuda.device_count()):
        raise ConfigError(f"there is no device {device}", f"the last one is cuda:{count - 1}")
    # cuDNN would round float32 to ten bits unless told otherwise; what is not asked for by train.precision is exact.
    torch.backends.cudnn.allow_tf32 = False
    return device
