"""Law 9 at its core: a run that was saved and taken up again is the run that never stopped, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.errors import DivergenceError, ModelError, ResourceError
from seqkit.settings import SGD, Adam, AdamW, AveragedSGD, LinearDecay, Muon, Optimizer, RMSprop, Train
from seqkit.storage import checkpoint
from seqkit.training.callbacks import Averaging, StopRequest, Validation
from seqkit.training.moving_average import Average
from seqkit.training.saving import Saving, restore
from seqkit.training.trainer import Callback, Progress, Trainer, Update
from tests.support.training import Notes, StopAt, numbers, report, toy_model, toy_trainer, weights

EVERY: list[Optimizer] = [AdamW(), Adam(), SGD(momentum=0.9), RMSprop(momentum=0.5), Muon(), AveragedSGD()]


def saving(
    folder: Path,
    settings: Train,
    average: Average | None = None,
    told: list[str] | None = None,
    request: StopRequest | None = None,
) -> Saving:
    def hear(event: str, fields: Mapping[str, object]) -> None:
        if told is not None:
            told.append(f"{event}: {fields.get('message', fields.get('step'))}")

    return Saving(
        settings,
        folder=folder,
        codec="codec",
        facts={"data": "text"},
        average=average,
        request=request or StopRequest(),
        on_event=hear,
    )


class Attempt:
    """A run of a small model with dropout and an average, into a folder, taking up what is there."""

    def __init__(self, folder: Path, optimizer: Optimizer, *, stop: int) -> None:
        model = toy_model(dropout=0.3)
        self.average, self.notes = Average(model, 0.9), Notes()
        callbacks: list[Callback] = [Averaging(self.average), StopAt(stop), self.notes]
        callbacks.append(saving(folder, Train(save_every=1000), self.average))
        self.trainer = toy_trainer(
            *callbacks, model=model, optimizer=optimizer, schedule=LinearDecay(warmup=3), progress=Progress(horizon=12)
        )
        found, _ = checkpoint.newest(folder)
        if found is not None:
            progress = restore(found, model=model, optimizers=self.trainer.optimizers, average=self.average)
            progress.stop = None
            self.trainer.progress = progress
        self.trainer.run()


@pytest.mark.parametrize(
    "optimizer",
    [pytest.param(each, marks=[pytest.mark.slow] * (number > 1)) for number, each in enumerate(EVERY)],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_resumed_run_is_the_straight_run_bit_for_bit(optimizer: Optimizer, tmp_path: Path) -> None:
    straight = Attempt(tmp_path / "straight", optimizer, stop=11)
    first = Attempt(tmp_path / "stopped", optimizer, stop=5)
    second = Attempt(tmp_path / "stopped", optimizer, stop=11)
    assert numbers(first.notes) + numbers(second.notes) == numbers(straight.notes)
    assert torch.equal(weights(second.trainer), weights(straight.trainer))
    for name, tensor in straight.average.tensors().items():
        assert torch.equal(second.average.tensors()[name], tensor)
    assert second.trainer.progress == straight.trainer.progress


def test_another_optimizer_is_refused(tmp_path: Path) -> None:
    Attempt(tmp_path, Muon(), stop=2)
    with pytest.raises(ModelError, match="another optimizer"):
        Attempt(tmp_path, AdamW(), stop=4)


def test_saves_come_every_so_many_steps_and_at_the_end(tmp_path: Path) -> None:
    told: list[str] = []
    toy_trainer(StopAt(7), saving(tmp_path, Train(save_every=3, keep=9), told=told)).run()
    assert checkpoint.steps(tmp_path) == [3, 6, 7]
    assert told == ["save: 3", "save: 6", "save: 7"]


def test_a_save_that_is_wished_for_comes_after_the_next_step_once(tmp_path: Path) -> None:
    request, told = StopRequest(), list[str]()

    class Wish(Callback):
        def stepped(self, trainer: Trainer, step: Update) -> None:
            request.save = request.save or trainer.progress.step in (2, 5)

    toy_trainer(saving(tmp_path, Train(save_every=100, keep=9), told=told, request=request), Wish(), StopAt(8)).run()
    assert told == ["save: 3", "save: 6", "save: 8"]


def test_only_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    settings = Train(keep=2, metric="bleu")
    waiting = iter([1.0, 9.0, 2.0, 3.0, 4.0])
    validation = Validation(settings, every=1, validate=lambda: report(bleu=next(waiting)))
    toy_trainer(StopAt(5), saving(tmp_path, settings), validation).run()
    assert checkpoint.steps(tmp_path) == [2, 4, 5]
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert (best.step, best.score) == (2, 9.0)


def test_the_last_checkpoint_says_why_the_run_is_over(tmp_path: Path) -> None:
    toy_trainer(StopAt(4), saving(tmp_path, Train(save_every=2))).run()
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.training["progress"]["stop"]) == (4, "steps")
    assert (found.training["data"], found.codec) == ("text", "codec")


def full(monkeypatch: pytest.MonkeyPatch, *, steps: set[int]) -> None:
    """No room for the checkpoints of these steps."""
    write = checkpoint.save

    def save(folder: Path, step: int, **rest: Any) -> Path:
        if step in steps:
            raise ResourceError("no room: 9 bytes needed, 1 free")
        return write(folder, step, **rest)

    monkeypatch.setattr(checkpoint, "save", save)


def test_a_full_disk_is_reported_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, steps={4, 6})
    told: list[str] = []
    progress = toy_trainer(StopAt(8), saving(tmp_path, Train(save_every=2, keep=9), told=told)).run()
    assert progress.step == 8
    assert checkpoint.steps(tmp_path) == [2, 8]
    warnings = [line for line in told if line.startswith("warn")]
    assert len(warnings) == 2
    assert all("9 bytes needed" in line and "again" in line for line in warnings)


def test_a_last_save_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(monkeypatch, steps={4})
    with pytest.raises(ResourceError, match="9 bytes"):
        toy_trainer(StopAt(4), saving(tmp_path, Train(save_every=3))).run()
    assert checkpoint.steps(tmp_path) == [3]


def test_what_a_crash_left_half_written_goes(tmp_path: Path) -> None:
    half = tmp_path / "step-00000003.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    toy_trainer(StopAt(1), saving(tmp_path, Train())).run()
    assert not half.exists()


def test_no_average_no_file_of_it(tmp_path: Path) -> None:
    trainer: Trainer = toy_trainer(StopAt(1), saving(tmp_path, Train()))
    trainer.run()
    found, _ = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.stems == {"model", "optimizer"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, bad: float) -> None:
    class Overflow(Callback):
        def stepped(self, trainer: Trainer, step: Update) -> None:
            if trainer.progress.step == 3:
                with torch.no_grad():
                    next(trainer.objective.parameters())[-1] = bad

    with pytest.raises(DivergenceError, match="after step 3") as caught:
        toy_trainer(Overflow(), StopAt(9), saving(tmp_path, Train(save_every=1))).run()
    assert caught.value.hint is not None
    assert checkpoint.steps(tmp_path) == [1, 2]
