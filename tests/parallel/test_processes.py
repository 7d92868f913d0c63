"""Law 8 over processes: two of them see what one sees, decide alike, and tell when a partner is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.errors import ResourceError
from seqkit.parallel.processes import Processes, connect, launch
from seqkit.settings import SGD, Muon, Optimizer
from seqkit.tasks import ValidationContext
from seqkit.tasks.task import Scores, Validator
from seqkit.training.objective import Objective
from seqkit.training.trainer import Abandoned, Callback, Trainer, Update
from tests.support.processes import Pair
from tests.support.training import (
    Crowded,
    Group,
    Notes,
    Poisoned,
    StopAt,
    ToyStream,
    toy_group,
    toy_model,
    toy_trainer,
    weights,
)

LENGTHS = (9, 1, 2, 1, 8, 1, 1, 3)
SPLITS = {
    "6 + 2": (range(6), range(6, 8)),
    "8 + 0": (range(8), range(0)),
    "alternating": (range(0, 8, 2), range(1, 8, 2)),
}


pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("meeting") / "place")
    yield made
    made.close()


def exchange(processes: Processes) -> list[Any]:
    tensor = torch.tensor([1.0, 10.0]) * (processes.rank + 1)
    processes.sum(tensor)
    processes.barrier()
    gathered = processes.gather({"rank": processes.rank, "text": "ß" * (3 * processes.rank)})
    return [tensor.tolist(), gathered, processes.broadcast(f"from {processes.rank}"), processes.first]


def test_values_travel(pair: Pair) -> None:
    here, there = pair.both(exchange)
    assert here[:-1] == there[:-1]
    assert here == [[3.0, 30.0], [{"rank": 0, "text": ""}, {"rank": 1, "text": "ßßß"}], "from 0", True]
    assert there[-1] is False


def test_alone_nothing_has_to_travel() -> None:
    processes, tensor = Processes(), torch.tensor([5.0])
    processes.sum(tensor)
    processes.barrier()
    processes.close()
    assert tensor.tolist() == [5.0]
    assert processes.gather("x") == ["x"]
    assert processes.broadcast("x") == "x"


def group_of(indices: range) -> Group:
    """A slice of eight pairs of very different lengths; the count of tokens is that of all."""
    random = np.random.default_rng(0)
    source, target = (
        Encoded.from_lists([random.integers(3, 8, size=n).tolist() for n in lengths])
        for lengths in (LENGTHS[::-1], LENGTHS)
    )
    return Group([translation_batch(source, target, np.array(indices, dtype=np.int64))], sum(LENGTHS) + 8, 80)


class StepOver:
    """One step in float64, over the slice that belongs to the process."""

    def __init__(self, slices: tuple[range, ...], *, clip: float, optimizer: Optimizer) -> None:
        self.slices, self.clip, self.optimizer = slices, clip, optimizer

    def __call__(self, processes: Processes) -> tuple[Tensor, ...]:
        objective = Objective(toy_model().double(), smoothing=0.1)
        trainer = toy_trainer(objective=objective, optimizer=self.optimizer, clip=self.clip, processes=processes)
        step = trainer.step(group_of(self.slices[processes.rank]))
        sums = torch.stack([part.double() for part in (step.tally.objective, step.tally.nll, step.tally.tokens)])
        return sums, torch.tensor(step.norm, dtype=torch.float64), weights(trainer)


@pytest.mark.parametrize("clip", [0.1, pytest.param(100.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("split", SPLITS)
def test_two_processes_make_the_step_of_one(pair: Pair, split: str, clip: float) -> None:
    alone = StepOver((range(8),), clip=clip, optimizer=SGD())(Processes())
    here, there = pair.both(StepOver(SPLITS[split], clip=clip, optimizer=SGD()))
    torch.testing.assert_close(here, alone, rtol=1e-9, atol=1e-9)
    assert all(map(torch.equal, here, there))


def test_two_processes_share_muon_s_work(pair: Pair) -> None:
    alone = StepOver((range(8),), clip=1.0, optimizer=Muon())(Processes())
    here, there = pair.both(StepOver(SPLITS["6 + 2"], clip=1.0, optimizer=Muon()))
    torch.testing.assert_close(here, alone, rtol=1e-3, atol=1e-3)  # directions are found in bfloat16
    assert all(map(torch.equal, here, there))


def poisoned(processes: Processes) -> tuple[Any, ...]:
    """A NaN in the gradient of the second process only."""
    bad = [0] if processes.rank == 1 else []
    trainer = toy_trainer(objective=Poisoned(*bad), processes=processes)
    before = weights(trainer)
    step = trainer.step(toy_group(processes.rank))
    return step.updated, trainer.progress.step, trainer.progress.skipped, torch.equal(weights(trainer), before)


def test_all_skip_what_is_not_finite_in_one(pair: Pair) -> None:
    here, there = pair.both(poisoned)
    assert here == there == (False, 0, 1, True)


def crowded(processes: Processes, room: int = 1) -> tuple[Any, ...]:
    """Ten steps for which only the second process is short of memory."""
    trainer = toy_trainer(objective=Crowded(room if processes.rank == 1 else 9), processes=processes)
    parts = [trainer.step(toy_group(number)).parts for number in range(10)]
    return parts, weights(trainer)


def roomy(processes: Processes) -> tuple[Any, ...]:
    return crowded(processes, room=9)


@pytest.mark.slow
def test_a_process_short_of_memory_keeps_in_step_with_one_that_is_not(pair: Pair) -> None:
    (parts, here), (cut, there) = pair.both(crowded)
    assert (parts, cut) == ([1] * 10, [4] * 10)
    assert torch.equal(here, there)
    torch.testing.assert_close(here, pair.both(roomy)[0][1])


class WishIn(Callback):
    """One process would like to stop."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.processes.rank == self.rank and trainer.progress.step == 3:
            trainer.stop_reason = "signal"


def wished(processes: Processes) -> tuple[Any, ...]:
    notes = Notes()
    progress = toy_trainer(WishIn(1), StopAt(9), notes, processes=processes, stream=ToyStream()).run()
    return progress.step, progress.stop, [step.tally.loss for step in notes.steps]


def test_all_stop_where_one_wishes_to(pair: Pair) -> None:
    here, there = pair.both(wished)
    assert here == there
    assert here[:2] == (4, "signal")


class Sharing(Validator):
    """Work in pieces, of which the second process has far more; it wishes to stop after so many, if at all."""

    def __init__(self, processes: Processes, *, stop_after: int | None) -> None:
        self.done = 0
        wish = lambda: "SIGTERM" if processes.rank == 1 and self.done == stop_after else None  # noqa: E731
        super().__init__(toy_model(), ValidationContext(processes, torch.device("cpu"), wish), None)

    def loss(self, piece_done: Callable[[], object]) -> Tensor:
        for _ in range(2 + 5 * self.processes.rank):
            self.done += 1
            piece_done()
        return torch.ones(3, dtype=torch.float64)

    def scores(self) -> Scores:
        with self.together():
            return Scores({})


class Shared:
    """How many pieces a process did before all left, and why they did; and whether they are still in step."""

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after = stop_after

    def __call__(self, processes: Processes) -> tuple[int, str | None, int, bool]:
        validator, reason = Sharing(processes, stop_after=self.stop_after), None
        validator.model.train()
        try:
            validator()
        except Abandoned as abandoned:
            reason = abandoned.reason
        counter = torch.ones(1)
        processes.sum(counter)
        return validator.done, reason, int(counter), validator.model.training


@pytest.mark.parametrize(
    ("stop_after", "here", "there"),
    [
        (None, (2, None), (7, None)),
        (0, (0, "SIGTERM"), (0, "SIGTERM")),
        (1, (1, "SIGTERM"), (1, "SIGTERM")),
        (5, (2, "SIGTERM"), (5, "SIGTERM")),
        (7, (2, "SIGTERM"), (7, "SIGTERM")),
    ],
)
def test_all_leave_a_validation_where_one_wishes_to(
    pair: Pair, stop_after: int | None, here: tuple[int, str | None], there: tuple[int, str | None]
) -> None:
    """Also the one that has long done its own part."""
    assert pair.both(Shared(stop_after)) == ((*here, 2, True), (*there, 2, True))


def dropped(processes: Processes) -> float:
    """The loss of one process's own batch, its dropout included, before it is summed."""
    losses = []

    class Spy(Objective):
        def forward(self, *given: Any) -> Any:
            tally, state = super().forward(*given)
            losses.append(float(tally.nll))
            return tally, state

    toy_trainer(objective=Spy(toy_model(dropout=0.5), smoothing=0.0), processes=processes).step(toy_group(0))
    return losses[0]


def test_processes_drop_different_elements(pair: Pair) -> None:
    here, there = pair.both(dropped)
    assert here != there


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes = connect(torch.device("cpu"))
    assert (processes.rank, processes.world, processes.first) == (0, 1, True)


def test_launching_one_process_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: pytest.fail("started something"))
    with launch(1, ["train", "nothing.toml"]):
        pass


def die(processes: Processes) -> str:
    """The second process is killed while the first waits for it."""
    if processes.rank == 1:
        os._exit(1)
    with pytest.raises(ResourceError) as caught:
        processes.sum(torch.zeros(3))
    return str(caught.value)


def test_a_lost_partner_is_told_and_not_waited_for(pair: Pair) -> None:
    """Stands last: the pair is no more."""
    pair.wire.send(die)
    message = die(pair.processes)
    assert message.startswith("lost another process of this run")
    assert "the same command goes on" in message
