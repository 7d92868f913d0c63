"""Whole runs of a small model: what a stop leaves behind is taken up as if there had been none."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from seqkit.errors import DivergenceError, Interrupted, ModelError
from seqkit.parallel.processes import Processes
from seqkit.runs import session
from seqkit.runs.session import train
from seqkit.storage import checkpoint
from seqkit.training import reporting
from seqkit.training.callbacks import StopRequest
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Trainer, Update
from tests.support.sessions import (
    Seen,
    events,
    progress,
    refused,
    same,
    same_tensors,
    scored,
    stopped,
    toy_recipe,
)


def test_forty_steps_are_seventeen_a_stop_and_twenty_three(corpus: Path, seen: list[Seen]) -> None:
    """With dropout, accumulation, an average, and a warm-up that ends behind the stop."""
    settings = toy_recipe(corpus, steps=40)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "stopped", at=17)
    train(settings, out=corpus / "stopped", device="cpu")
    assert seen == straight
    assert len(seen) == 40
    assert len({step.loss for step in seen}) == 40
    same(corpus / "stopped", corpus / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 6, 7, 8, 9, 10, 11, 19, 20])
def test_a_stop_anywhere_changes_nothing(corpus: Path, seen: list[Seen], at: int) -> None:
    """In an epoch of seven steps, at its end and behind it; before, at and after a validation; shortly before the end.

    At the very end the last validation is still to be made.

    A stop is heeded after a whole step, so none can fall between accumulated batches.
    """
    settings = toy_recipe(corpus, validate_every=10)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "stopped", at=at)
    train(settings, out=corpus / "stopped", device="cpu")
    assert seen == straight
    same(corpus / "stopped", corpus / "straight")
    assert scored(corpus / "stopped") == scored(corpus / "straight")


def test_every_pair_is_read_once_an_epoch_through_a_stop(corpus: Path, seen: list[Seen]) -> None:
    settings = toy_recipe(corpus, steps=None, epochs=4)
    stopped(settings, corpus / "run", at=10)
    train(settings, out=corpus / "run", device="cpu")
    epochs = [seen[first : first + len(seen) // 4] for first in range(0, len(seen), len(seen) // 4)]
    orders = [[pair for step in epoch for pair in step.pairs] for epoch in epochs]
    assert len(orders) == 4
    assert len(set(orders[0])) == len(orders[0]) == 60
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert all(one != other for one, other in pairwise(orders))
    found = progress(corpus / "run")
    assert (found.step, found.stop, found.tokens) == (len(seen), "epochs", 4 * tokens(corpus))


def tokens(corpus: Path) -> int:
    """Target tokens of the training pairs, ends included."""
    lines = (corpus / "train.tsv").read_text(encoding="utf-8").splitlines()
    return sum(len(line.split("\t")[1].split(" ")) + 1 for line in lines)


def test_looking_does_not_disturb(corpus: Path, seen: list[Seen]) -> None:
    """Validation with samples every five steps, or none at all: the same losses and weights."""
    train(toy_recipe(corpus, validate_every=5), out=corpus / "watched", device="cpu")
    watched = [*seen]
    seen.clear()
    train(toy_recipe(corpus, dev=False), out=corpus / "blind", device="cpu")
    assert seen == watched
    same_tensors(corpus / "watched", corpus / "blind")


def test_a_wish_to_stop_that_came_while_torchrun_began_is_heeded_before_the_others_are_met(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are gone by then, and waiting for them would take minutes."""

    def meet(device: torch.device) -> Processes:
        raise AssertionError("met")

    monkeypatch.setattr(session, "connect", meet)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Interrupted, match="before the first step") as caught:
        train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu", request=StopRequest("SIGTERM", 15))
    assert caught.value.exit_code == 143


def test_a_damaged_checkpoint_is_passed_over_and_its_steps_made_again(corpus: Path, seen: list[Seen]) -> None:
    settings = toy_recipe(corpus, save_every=4)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "run", at=10)
    weights = corpus / "run" / "checkpoints" / "step-00000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    train(settings, out=corpus / "run", device="cpu")
    assert seen[:10] + seen[12:] == straight
    assert seen[8:10] == seen[10:12]
    same_tensors(corpus / "run", corpus / "straight")
    warnings = [event["message"] for event in events(corpus / "run", "warn")]
    assert len(warnings) == 1
    assert "step-00000010" in warnings[0]
    assert "using step-00000008" in warnings[0]


def test_the_log_goes_on_through_a_crash(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn line is gone, attempts count up, and of every step the last record is the one that counts."""
    monkeypatch.setattr(reporting, "SECONDS", 0.0)
    monkeypatch.setattr(reporting, "RECORD_SECONDS", 0.0)
    settings = toy_recipe(corpus, save_every=4)
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        if self.progress.step == 10:
            raise KeyboardInterrupt
        return original(self, group)

    with patch.object(Trainer, "step", step), pytest.raises(KeyboardInterrupt):
        train(settings, out=corpus / "run", device="cpu")
    with (corpus / "run" / "log.jsonl").open("ab") as stream:
        stream.write(b'{"v":1,"event":"st')
    train(settings, out=corpus / "run", device="cpu")
    made = [(event["attempt"], event["step"]) for event in events(corpus / "run", "step")]
    assert made == [*((1, step) for step in range(1, 11)), *((2, step) for step in range(9, 21))]


def test_with_no_good_checkpoint_left_nothing_is_trained(corpus: Path, seen: list[Seen]) -> None:
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    for path in (corpus / "run" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(b"")
    seen.clear()
    refused(toy_recipe(corpus, steps=4), corpus / "run", ModelError, "no good checkpoint", "--overwrite")
    assert seen == []


def test_a_hopeless_rate_ends_in_divergence_and_leaves_finite_checkpoints(corpus: Path) -> None:
    settings = toy_recipe(corpus, learning_rate=1e38, save_every=1, steps=60, schedule={"kind": "constant"})
    with pytest.raises(DivergenceError):
        train(settings, out=corpus / "run", device="cpu")
    folder = corpus / "run" / "checkpoints"
    for step in checkpoint.steps(folder):
        found = checkpoint.read(checkpoint.step_path(folder, step))
        assert all(bool(tensor.isfinite().all()) for tensor in found.tensors("model").values()), step


def test_divergence_names_what_is_not_finite_and_what_was_read(corpus: Path) -> None:
    """The rate is so high that sums overflow, and the weights are still numbers."""
    settings = toy_recipe(corpus, learning_rate=1e30, optimizer="sgd", schedule={"kind": "constant"}, steps=60)
    with pytest.raises(DivergenceError) as told:
        train(settings, out=corpus / "run", device="cpu")
    assert re.search(r"in a row, at step \d+: the .* is not finite, with the training examples \d+, ", told.value.what)
    assert "20 steps in a row" in told.value.what


def test_a_seed_decides_the_run(corpus: Path, seen: list[Seen]) -> None:
    runs = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(toy_recipe(corpus, steps=5, seed=seed), out=corpus / name, device="cpu")
        runs.append([*seen])
        seen.clear()
    assert runs[0] == runs[1]
    assert runs[0][0].loss != runs[2][0].loss


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("batch_tokens", [40, 13])
def test_two_processes_train_as_one(corpus: Path, seen: list[Seen], batch_tokens: int) -> None:
    """Also where a batch is a single pair, and one process has nothing to do."""
    for processes in (1, 2):
        settings = toy_recipe(
            corpus,
            model={"dropout": 0.0},
            processes=processes,
            average=0.0,
            steps=None,
            epochs=2,
            batch_tokens=batch_tokens,
            validate_every=5,
        )
        train(settings, out=corpus / str(processes), device="cpu")
    alone, together = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert [step.loss for step in together] == pytest.approx([step.loss for step in alone], rel=1e-5)
    assert [step.norm for step in together] == pytest.approx([step.norm for step in alone], rel=1e-3)
    assert sum(len(step.pairs) for step in together) < sum(len(step.pairs) for step in alone)
    one, two = progress(corpus / "1"), progress(corpus / "2")
    assert (one.step, one.tokens, one.epoch, one.position) == (two.step, two.tokens, two.epoch, two.position)
