"""Memory: when it ran out, a batch in parts of whole rows, and the most that was used."""

from __future__ import annotations

import weakref

import pytest
import torch

from seqkit.system.device import CPU
from seqkit.training.memory import free, parts, peak, ran_out
from tests.support.training import toy_group


def test_what_torch_says_on_a_cpu_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 55, dtype=torch.uint8)
    assert ran_out(caught.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out(RuntimeError("something else"))


@pytest.mark.parametrize("count", [1, 2, 3, 99])
def test_the_parts_of_a_batch_are_its_rows_in_their_order(count: int) -> None:
    batch = toy_group(0).batches[0]
    assert batch.source is not None
    made = list(parts(batch, count))
    assert len(made) == min(count, 3)
    assert torch.cat([rows for rows, _ in made]).tolist() == [0, 1, 2]
    for rows, part in made:
        assert part.source is not None
        for row, index in enumerate(rows.tolist()):
            length = int(batch.targets.mask[index].sum())
            assert torch.equal(part.targets.ids[row, :length], batch.targets.ids[index, :length])
            assert int(part.source.mask[row].sum()) == int(batch.source.mask[index].sum())


def test_the_most_that_was_used_never_falls() -> None:
    before = peak(CPU)
    held = torch.ones(1 << 23)  # 32 MiB
    after = peak(CPU)
    assert after >= before > 1 << 20
    del held
    assert peak(CPU) >= after


class Node:
    """Refers to another, which may refer back."""

    other: Node


def test_what_nothing_else_refers_to_is_given_back() -> None:
    one, two = Node(), Node()
    one.other, two.other = two, one
    gone = weakref.ref(one)
    del one, two
    free(CPU)
    assert gone() is None
