"""The loop: what a step does, in which order whom it tells, and what happens when numbers go wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch
from seqkit.errors import DivergenceError
from seqkit.loss import Tally
from seqkit.settings import SGD, Constant, LinearDecay
from seqkit.state import State
from seqkit.training.objective import Objective
from seqkit.training.trainer import BAD_STEPS, Callback, Progress, Trainer, Update
from tests.support.training import (
    Group,
    Notes,
    Poisoned,
    StopAt,
    ToyStream,
    numbers,
    toy_group,
    toy_model,
    toy_trainer,
    weights,
)


def test_groups_are_read_in_order_epoch_after_epoch() -> None:
    stream, notes = ToyStream(size=3), Notes()
    progress = toy_trainer(StopAt(7), notes, stream=stream).run()
    assert stream.built == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert (progress.step, progress.epoch, progress.position, progress.stop) == (7, 2, 1, "steps")
    assert progress.tokens == sum(toy_group(1000 * epoch + number).tokens for epoch, number in stream.built)


def test_callbacks_hear_of_every_moment_in_turn() -> None:
    notes = Notes()
    toy_trainer(StopAt(2), notes).run()
    assert notes.moments == ["started", "stepped", "stepped", "ended"]


def test_the_loop_goes_on_where_progress_stands() -> None:
    stream = ToyStream(size=3)
    toy_trainer(StopAt(12), stream=stream, progress=Progress(step=10, epoch=3, position=2)).run()
    assert stream.built == [(3, 2), (4, 0)]


def test_an_epoch_that_was_read_to_its_end_is_not_read_again() -> None:
    stream = ToyStream(size=3)
    toy_trainer(StopAt(11), stream=stream, progress=Progress(step=10, epoch=3, position=3)).run()
    assert stream.built == [(4, 0)]


def test_a_run_that_is_over_does_nothing() -> None:
    notes = Notes()
    trainer = toy_trainer(notes, progress=Progress(stop="steps"))
    before = weights(trainer)
    trainer.run()
    assert notes.moments == ["started", "ended"]
    assert torch.equal(weights(trainer), before)


def test_dropout_is_a_function_of_the_place_in_the_run() -> None:
    """Whoever draws random numbers in between: a sampled validation must not change training."""

    class Gambler(Callback):
        def stepped(self, trainer: Trainer, step: Update) -> None:
            torch.rand(17)

    alone, disturbed = Notes(), Notes()
    one = toy_trainer(StopAt(6), alone, model=toy_model(dropout=0.5))
    other = toy_trainer(StopAt(6), Gambler(), disturbed, model=toy_model(dropout=0.5))
    one.run()
    other.run()
    assert numbers(alone) == numbers(disturbed)
    assert torch.equal(weights(one), weights(other))
    assert len({loss for loss, _, _ in numbers(alone)}) == 6


def test_each_epoch_and_place_has_its_own_dropout() -> None:
    trainer = toy_trainer(model=toy_model(dropout=0.5), schedule=Constant())
    seen = set()
    for epoch in range(2):
        for position in range(3):
            trainer.progress.epoch, trainer.progress.position = epoch, position
            trainer.objective.train()
            trainer.objective.model.load_state_dict(toy_model().state_dict())  # the same weights each time
            seen.add(trainer.step(toy_group(0)).tally.loss)
    assert len(seen) == 6


def test_a_step_is_one_step_of_the_optimizer_with_the_mean_gradient() -> None:
    reference = toy_model()
    trainer = toy_trainer(optimizer=SGD(), clip=None)
    group = toy_group(3)
    step = trainer.step(group)
    parts = [Objective(reference, smoothing=0.1)(batch)[0].objective for batch in group.batches]
    total = parts[0] + parts[1]
    gradients = torch.autograd.grad(total / group.tokens, list(reference.parameters()))
    for parameter, before, gradient in zip(
        trainer.objective.parameters(), reference.parameters(), gradients, strict=True
    ):
        torch.testing.assert_close(parameter, before - 0.01 * gradient)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert step.norm == pytest.approx(float(norm), rel=1e-5)
    assert float(step.tally.objective) == pytest.approx(float(total.detach()), rel=1e-5)
    assert (int(step.tally.tokens), step.padded) == (group.tokens, group.padded)


def test_the_rate_follows_the_schedule_of_updates() -> None:
    notes = Notes()
    toy_trainer(StopAt(6), notes, schedule=LinearDecay(warmup=0), progress=Progress(horizon=8)).run()
    assert [step.rate for step in notes.steps] == pytest.approx([1 - step / 8 for step in range(6)])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_skipped(value: float) -> None:
    notes = Notes()
    trainer = toy_trainer(notes, objective=Poisoned(5, value=value))
    groups = [toy_group(seed) for seed in range(4)]
    trainer.step(groups[0])
    trainer.step(groups[1])
    before = weights(trainer)
    moments = [state["exp_avg"].clone() for state in trainer.optimizers[0].state.values()]
    step = trainer.step(groups[2])
    assert not step.updated
    assert (trainer.progress.step, trainer.progress.skipped) == (2, 1)
    assert torch.equal(weights(trainer), before)
    after = [state["exp_avg"] for state in trainer.optimizers[0].state.values()]
    assert all(map(torch.equal, after, moments))
    step = trainer.step(groups[3])
    assert step.updated
    assert bool(weights(trainer).isfinite().all())
    assert not torch.equal(weights(trainer), before)


def test_a_skipped_step_does_not_advance_the_schedule() -> None:
    notes = Notes()
    trainer = toy_trainer(
        StopAt(4), notes, objective=Poisoned(2), schedule=LinearDecay(warmup=0), progress=Progress(horizon=8)
    )
    trainer.run()
    assert [step.rate for step in notes.steps] == pytest.approx([1, 7 / 8, 7 / 8, 6 / 8, 5 / 8])
    assert trainer.progress.position + 4 * trainer.progress.epoch == 5


def test_too_many_bad_steps_in_a_row_end_the_run() -> None:
    notes = Notes()
    trainer = toy_trainer(StopAt(99), notes, objective=Poisoned(*range(4, 1000)))
    with pytest.raises(DivergenceError, match=f"{BAD_STEPS} steps in a row, at step 2") as caught:
        trainer.run()
    assert caught.value.exit_code == 6
    assert caught.value.hint is not None
    assert bool(weights(trainer).isfinite().all())
    assert notes.moments.count("ended") == 0
    assert len(notes.steps) == 2 + BAD_STEPS - 1


def test_a_good_step_between_makes_the_count_begin_anew() -> None:
    bad = [2 * step for step in range(BAD_STEPS - 1)] + [2 * step for step in range(BAD_STEPS, 2 * BAD_STEPS - 1)]
    progress = toy_trainer(StopAt(3), objective=Poisoned(*bad)).run()
    assert progress.skipped == 2 * (BAD_STEPS - 1)


def test_a_wish_to_stop_is_heeded_after_the_next_step() -> None:
    class Wish(Callback):
        def stepped(self, trainer: Trainer, step: Update) -> None:
            if trainer.progress.step == 3:
                trainer.stop_reason = "signal"

    notes = Notes()
    progress = toy_trainer(Wish(), notes).run()
    assert (progress.step, progress.stop) == (4, "signal")
    assert notes.moments[-1] == "ended"


def test_a_group_in_which_nothing_counts_does_no_harm() -> None:
    group = toy_group(0)
    empty = [
        Batch(batch.source, batch.inputs, batch.targets._replace(mask=torch.zeros_like(batch.targets.mask)))
        for batch in group.batches
    ]
    trainer = toy_trainer()
    step = trainer.step(Group(empty, 0, 10))
    assert step.tally.loss == 0.0
    assert step.norm == 0.0
    assert bool(weights(trainer).isfinite().all())


class Remembering(Objective):
    """Hands on a state, and notes what it was given."""

    def __init__(self) -> None:
        super().__init__(toy_model(), smoothing=0.0)
        self.given: list[State] = []

    def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
        self.given.append(state)
        tally, _ = super().forward(batch)
        return tally, tally.objective.view(1) * len(self.given)


def test_state_is_handed_on_only_where_a_batch_continues_and_never_with_its_graph() -> None:
    objective = Remembering()
    trainer = toy_trainer(objective=objective, stream=ToyStream(carries=1))
    first, second = toy_group(0).batches
    goes_on = Batch(second.source, second.inputs, second.targets, continues=True)
    trainer.step(Group([first, goes_on, first], 20, 20))
    trainer.step(Group([goes_on], 20, 20))
    kinds = [type(each) for each in objective.given]
    assert kinds == [type(None), Tensor, type(None), Tensor]
    assert not any(each.requires_grad for each in objective.given if isinstance(each, Tensor))
