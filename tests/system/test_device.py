"""Devices by name: the CPU, or a GPU that is there; everything else is refused with what to do."""

from __future__ import annotations

import pytest
import torch

from seqkit.errors import ConfigError
from seqkit.system.device import CPU, device_of


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A machine with so many GPUs, whatever this one has."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return count


@pytest.mark.parametrize("gpus", [0], indirect=True)
def test_without_a_gpu_the_cpu_is_taken_and_a_gpu_refused(gpus: int) -> None:
    assert device_of("auto") == device_of("cpu") == CPU
    with pytest.raises(ConfigError, match="sees no GPU") as caught:
        device_of("cuda")
    assert "--device cpu" in str(caught.value.hint)


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_a_gpu_is_taken_where_there_is_one_and_calculates_in_full_precision(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_of("auto") == torch.device("cuda", 0)
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert torch.backends.cudnn.allow_tf32 is False
    assert device_of("cpu") == CPU
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("cuda") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="no device cuda:2") as caught:
        device_of("cuda:2")
    assert "cuda:1" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "meta", "cpu:7", "CPU"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        device_of(name)
