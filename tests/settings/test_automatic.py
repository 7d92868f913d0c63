"""What a recipe's `auto` stands for on a machine."""

from __future__ import annotations

from typing import Any

import pytest

from seqkit.config import build
from seqkit.settings import Recipe
from seqkit.settings.automatic import MOST_PROCESSES, processes

TRANSLATION = {"kind": "pairs", "train": ["train.tsv"], "source": "en", "target": "de"}
LANGUAGE = {"kind": "stream", "train": ["train.txt"]}


def recipe(kind: str, **train: Any) -> Recipe:
    data = LANGUAGE if "language" in kind else TRANSLATION
    return build({"name": "t", "data": data, "model": {"kind": kind}, "train": {"steps": 1, **train}}, where="the test")


@pytest.mark.parametrize("kind", ["transformer", "recurrent", "plain", "mixed", "recurrent_language_model"])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_more_to_read_never_means_fewer_processes_nor_more_than_there_are_cores(kind: str, cores: int) -> None:
    counts = [processes(recipe(kind, batch_tokens=2**power), cores=cores) for power in range(6, 20)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == min(cores, MOST_PROCESSES)


def test_a_recurrence_needs_more_for_each() -> None:
    assert processes(recipe("transformer_language_model", batch_tokens=2048), cores=2) == 2
    assert processes(recipe("recurrent_language_model", batch_tokens=2048), cores=2) == 1


def test_what_shares_parameters_out_has_a_process_for_each_core() -> None:
    assert processes(recipe("transformer", batch_tokens=64, sharded=True), cores=4) == 4


def test_a_gpu_has_one() -> None:
    assert processes(recipe("transformer"), cores=None) == 1
