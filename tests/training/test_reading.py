"""Reading a group: in parts where memory runs out, to the same step; what never fits is named; too often is the end."""

from __future__ import annotations

import pytest
import torch

from seqkit.batch import Batch, Padded
from seqkit.errors import ResourceError
from seqkit.loss import Tally
from seqkit.models.build import Sizes, build
from seqkit.settings import RecurrentLanguageModel
from seqkit.state import State
from seqkit.training import reading
from seqkit.training.objective import Objective
from tests.support.training import Crowded, Group, Notes, StopAt, ToyStream, toy_group, toy_model, toy_trainer, weights


@pytest.fixture(autouse=True)
def no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for it takes long in a process that has loaded as much as a test's."""
    monkeypatch.setattr(reading, "free", lambda device: None)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("room", "parts"), [(3, 1), (2, 2), (1, 4)])
def test_a_batch_read_in_parts_makes_the_same_step(room: int, parts: int, late: bool) -> None:
    roomy, crowded = toy_trainer(), toy_trainer(objective=Crowded(room, late=late))
    group = toy_group(5)
    expected, found = roomy.step(group), crowded.step(group)
    assert found.parts == parts
    assert found.norm == pytest.approx(expected.norm, rel=1e-5)
    assert found.tally.loss == pytest.approx(expected.tally.loss, rel=1e-6)
    assert int(found.tally.tokens) == int(expected.tally.tokens)
    torch.testing.assert_close(weights(crowded), weights(roomy))
    assert not found.lost


def test_what_a_failed_attempt_added_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second batch of a group fails when the first has left its gradient already."""
    roomy, crowded = toy_trainer(), toy_trainer(objective=Crowded(2))
    first, second = toy_group(5).batches
    small = Batch(first.source, first.inputs, first.targets).rows(torch.arange(2))
    group = Group([small, second], 30, 30)
    roomy.step(group)
    assert crowded.step(group).parts == 2
    torch.testing.assert_close(weights(crowded), weights(roomy))


@pytest.mark.parametrize("late", [False, True])
def test_an_example_that_never_fits_is_left_out_and_named(late: bool) -> None:
    group = toy_group(5)
    batch = group.batches[1]
    outcast = batch.targets.ids[1]
    examples = [[10, 11, 12], [13, 14, 15]]
    crowded = toy_trainer(objective=Crowded(9, forbidden=outcast, late=late))
    found = crowded.step(Group(group.batches, group.tokens, group.padded, examples))
    assert list(found.lost) == ["14"]
    without = toy_trainer()
    rest = batch.rows(torch.tensor([0, 2]))
    without.step(Group([group.batches[0], rest], group.tokens, group.padded))
    torch.testing.assert_close(weights(crowded), weights(without))


def test_a_lone_row_for_which_there_is_no_room_ends_the_run_with_advice() -> None:
    group = toy_group(5)
    trainer = toy_trainer(objective=Crowded(0))
    with pytest.raises(ResourceError, match="did not fit"):
        trainer.step(Group([group.batches[0].rows(torch.arange(1))], 5, 5))


def test_any_other_error_is_not_taken_for_a_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = toy_trainer()

    def wrong(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trainer.objective, "forward", wrong)
    with pytest.raises(RuntimeError, match="mat1"):
        trainer.step(toy_group(0))


def test_state_goes_on_through_a_batch_read_in_parts() -> None:
    class Little(Objective):
        def forward(self, batch: Batch, state: State = None) -> tuple[Tally, State]:
            if len(batch.targets.ids) > 2:
                raise torch.OutOfMemoryError("no room")
            return super().forward(batch, state)

    ids = torch.randint(3, 8, (5, 12), generator=torch.Generator().manual_seed(0))
    windows = [
        Batch(None, part, Padded(part, part > 0), continues=number > 0)
        for number, part in enumerate(torch.split(ids, 4, 1))
    ]
    ends = []
    for kind in (Objective, Little):
        torch.manual_seed(0)
        settings = RecurrentLanguageModel(width=6, embedding=6, cell="lstm", layers=2)
        model = build(settings, Sizes(8, 8, joint=True))
        trainer = toy_trainer(objective=kind(model, smoothing=0.0), stream=ToyStream(carries=5))
        for window in windows:
            trainer.step(Group([window], 20, 20))
        ends.append((weights(trainer), trainer.carried))
    torch.testing.assert_close(ends[1], ends[0])


def test_a_run_for_which_memory_is_often_too_little_ends_with_everything_saved() -> None:
    trainer = toy_trainer(StopAt(400), objective=Crowded(2))
    trainer.run()
    assert trainer.progress.stop == "memory"
    assert 20 <= trainer.progress.step <= 22


def test_a_run_for_which_it_seldom_is_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Crowded(9)
    notes = Notes()
    trainer = toy_trainer(StopAt(60), notes, objective=objective)
    original = objective.forward

    def forward(batch: Batch, state: State = None) -> tuple[Tally, State]:
        objective.room = 2 if trainer.progress.step in (7, 47) else 9
        return original(batch, state)

    monkeypatch.setattr(objective, "forward", forward)
    trainer.run()
    assert trainer.progress.stop == "steps"
    assert [number for number, step in enumerate(notes.steps) if step.parts > 1] == [7, 47]


def test_the_rehearsal_of_the_largest_batch_leaves_no_trace() -> None:
    trainer = toy_trainer(model=toy_model(dropout=0.5))
    trainer.objective.eval()
    before, random = weights(trainer).clone(), torch.get_rng_state()
    assert trainer.rehearse() > 0
    assert torch.equal(weights(trainer), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert trainer.reader.vector is not None
    assert not trainer.reader.vector.any()
    assert not trainer.objective.training
    assert trainer.progress.step == trainer.progress.tokens == 0


def test_a_largest_batch_that_does_not_fit_is_an_error_with_advice() -> None:
    trainer = toy_trainer(objective=Crowded(2))
    with pytest.raises(ResourceError, match="largest batch") as caught:
        trainer.rehearse()
    assert "train.batch_tokens" in str(caught.value.hint)
