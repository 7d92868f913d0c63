"""Shards: what a process holds of a tensor, and the whole of it; plain tensors go through unchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from seqkit.parallel.processes import Processes
from seqkit.parallel.shards import full_tensor, full_tensors, is_sharded, local_shard, shard_like
from tests.support.processes import Pair

WHOLE = torch.arange(10.0).view(5, 2)  # rows are shared out: three and two


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("meeting") / "place")
    yield made
    made.close()


def sharded() -> Tensor:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    return distribute_tensor(WHOLE, init_device_mesh("cpu", (2,)), [Shard(0)])


def test_a_plain_tensor_is_all_there_is() -> None:
    tensor = torch.ones(3)
    assert not is_sharded(tensor)
    assert local_shard(tensor) is full_tensor(tensor) is shard_like(tensor, tensor) is tensor
    assert full_tensors({"a": tensor}, keep=True) == {"a": tensor}
    assert full_tensors({"a": tensor}, keep=False) == {}


def held(processes: Processes) -> tuple[bool, list[list[float]], list[list[float]], list[str]]:
    tensor = sharded()
    gathered = full_tensors({"a": tensor}, keep=processes.first)
    return is_sharded(tensor), local_shard(tensor).tolist(), full_tensor(tensor).tolist(), list(gathered)


@pytest.mark.slow
@pytest.mark.distributed
def test_each_process_holds_its_rows_and_all_can_be_gathered(pair: Pair) -> None:
    here, there = pair.both(held)
    assert here == (True, WHOLE[:3].tolist(), WHOLE.tolist(), ["a"])
    assert there == (True, WHOLE[3:].tolist(), WHOLE.tolist(), [])


def shared_again(processes: Processes) -> tuple[bool, list[list[float]]]:
    other = shard_like(-WHOLE, sharded())
    return is_sharded(other), local_shard(other).tolist()


@pytest.mark.slow
@pytest.mark.distributed
def test_a_whole_tensor_is_shared_out_as_another_is(pair: Pair) -> None:
    here, there = pair.both(shared_again)
    assert here == (True, (-WHOLE[:3]).tolist())
    assert there == (True, (-WHOLE[3:]).tolist())
