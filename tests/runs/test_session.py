"""Whole runs of a small model: what a stop leaves behind is taken up as if there had been none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec
import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch, pad
from seqkit.config import build
from seqkit.demo import reverse
from seqkit.errors import ConfigError, DataError, DivergenceError, Interrupted, ModelError
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.processes import Processes
from seqkit.runs import session
from seqkit.runs.network import build_model, recipe_optimizers
from seqkit.runs.session import train
from seqkit.runs.trained_model import load
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import EOS
from seqkit.settings import Recipe
from seqkit.storage import checkpoint
from seqkit.system.device import CPU
from seqkit.tasks import ValidationContext, prepare
from seqkit.tasks.translation_task import TranslationTask
from seqkit.training import reporting
from seqkit.training.callbacks import StopRequest
from seqkit.training.objective import build_objective
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Callback, Trainer, Update, ValidationReport
from tests.support.sessions import contents, events, progress, refused, same, same_tensors, scored, stopped, tensors


class Seen(NamedTuple):
    """One step: its numbers, and which pairs it read."""

    loss: float
    rate: float
    norm: float
    pairs: list[tuple[int, ...]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every step of every run of the test, as it happened."""
    steps: list[Seen] = []
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        made = original(self, group)
        pairs = [tuple(row.tolist()) for batch in group.batches for row in paired(batch)]
        steps.append(Seen(made.tally.loss, made.rate, made.norm, pairs))
        return made

    monkeypatch.setattr(Trainer, "step", step)
    return steps


def paired(batch: Batch) -> Iterator[Tensor]:
    """Each row's real tokens, one side after the other."""
    assert batch.source is not None
    for left, right in zip(batch.source.ids, batch.targets.ids, strict=True):
        yield torch.cat([left[left > 0], right[right > 0]])


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Sixty different pairs to train on, ten to validate on."""
    pairs = reverse(70, seed=1)
    for name, part in (("train", pairs[:60]), ("dev", pairs[60:])):
        rows = "".join(f"{source}\t{target}\n" for source, target in part)
        (tmp_path / f"{name}.tsv").write_text(rows, encoding="utf-8")
    return tmp_path


def recipe(corpus: Path, *, model: dict[str, Any] | None = None, dev: bool = True, **settings: Any) -> Recipe:
    """A run of seven steps an epoch with dropout, accumulation and an average."""
    small = {"kind": "transformer", "width": 16, "heads": 2, "feed_forward": 16, "encoder_layers": 1}
    fixed = {
        "steps": 20,
        "batch_tokens": 40,
        "accumulate": 2,
        "schedule": {"kind": "inverse_square_root", "warmup": 20},
        "average": 0.9,
        "validate_every": 1000,
        "processes": 1,
        "precision": "float32",
        "output_precision": "float32",
        "keep_heap": False,
        "keep": 100,
    }
    return build(
        {
            "data": {"train": [str(corpus / "train.tsv")], "dev": [str(corpus / "dev.tsv")] if dev else []},
            "text": {"kind": "words", "split": "spaces"},
            "model": {**small, "decoder_layers": 1, "dropout": 0.1, **(model or {})},
            "train": {**fixed, **settings},
        },
        where="the test",
    )


def test_forty_steps_are_seventeen_a_stop_and_twenty_three(corpus: Path, seen: list[Seen]) -> None:
    """With dropout, accumulation, an average, and a warm-up that ends behind the stop."""
    settings = recipe(corpus, steps=40)
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
    settings = recipe(corpus, validate_every=10)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "stopped", at=at)
    train(settings, out=corpus / "stopped", device="cpu")
    assert seen == straight
    same(corpus / "stopped", corpus / "straight")
    assert scored(corpus / "stopped") == scored(corpus / "straight")


def test_a_raised_limit_takes_a_complete_run_further(corpus: Path, seen: list[Seen]) -> None:
    """Twenty steps straight are nine, complete, and eleven more: the rate of this schedule knows no end."""
    train(recipe(corpus), out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    for steps in (9, 20):
        train(recipe(corpus, steps=steps), out=corpus / "raised", device="cpu")
    assert seen == straight
    same_tensors(corpus / "raised", corpus / "straight")


def test_every_pair_is_read_once_an_epoch_through_a_stop(corpus: Path, seen: list[Seen]) -> None:
    settings = recipe(corpus, steps=None, epochs=4)
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
    train(recipe(corpus, validate_every=5), out=corpus / "watched", device="cpu")
    watched = [*seen]
    seen.clear()
    train(recipe(corpus, dev=False), out=corpus / "blind", device="cpu")
    assert seen == watched
    same_tensors(corpus / "watched", corpus / "blind")


def test_a_complete_run_is_left_alone(corpus: Path) -> None:
    settings = recipe(corpus, steps=3)
    train(settings, out=corpus / "run", device="cpu")
    before = contents(corpus / "run")
    found = train(settings, out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (3, "steps")
    assert contents(corpus / "run") == before


def test_without_a_development_set_the_last_is_the_best(corpus: Path) -> None:
    train(recipe(corpus, dev=False, steps=3), out=corpus / "run", device="cpu")
    assert load(corpus / "run").facts["step"] == 3
    assert load(corpus / "run" / "model").facts["step"] == 3


def test_no_steps_at_all_give_a_model_too(corpus: Path) -> None:
    found = train(recipe(corpus, dev=False, steps=0), out=corpus / "run", device="cpu")
    assert (found.step, found.stop) == (0, "steps")
    assert load(corpus / "run" / "model").facts["step"] == 0


def test_a_changed_model_is_refused(corpus: Path) -> None:
    train(recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    changed = recipe(corpus, steps=4, model={"width": 32})
    refused(changed, corpus / "run", ConfigError, "model.width", "16", "32", "--overwrite")


def test_equal_means_may_change_and_another_random_stream_may_not(corpus: Path) -> None:
    """Fused kernels make the same step, up to rounding; torch's own dropout draws other masks."""
    train(recipe(corpus, steps=6), out=corpus / "straight", device="cpu")
    train(recipe(corpus, steps=3), out=corpus / "run", device="cpu")
    train(recipe(corpus, steps=6, fused_optimizer=False), out=corpus / "run", device="cpu")
    torch.testing.assert_close(tensors(corpus / "run"), tensors(corpus / "straight"), rtol=1e-3, atol=1e-5)
    refused(recipe(corpus, steps=9, cheap_dropout=False), corpus / "run", ConfigError, "train.cheap_dropout")


@pytest.mark.parametrize("on", [True, False])
def test_the_recipe_decides_about_dropout_and_optimizers(corpus: Path, on: bool) -> None:
    settings = recipe(corpus, cheap_dropout=on, fused_optimizer=on)
    model = build_model(settings, prepare(settings, corpus / "run").codecs)
    assert build_objective(settings, model, CPU).precision.byte_dropout == on
    assert {bool(optimizer.defaults["fused"]) for optimizer in recipe_optimizers(settings.train, model)} == {on}


def test_changed_data_are_refused(corpus: Path) -> None:
    train(recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    with (corpus / "train.tsv").open("a", encoding="utf-8") as stream:
        stream.write("a b\tb a\n")
    refused(recipe(corpus, steps=4), corpus / "run", DataError, "training data changed since step 2")


def test_a_refusal_leaves_the_recipe_of_the_run_as_it_was(corpus: Path) -> None:
    """Even the harmless part of a command that is refused must not be taken over."""
    train(recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    before = (corpus / "run" / "recipe.toml").read_bytes()
    with (corpus / "train.tsv").open("a", encoding="utf-8") as stream:
        stream.write("a b\tb a\n")
    refused(recipe(corpus, steps=4), corpus / "run", DataError, "--allow-data-change")
    assert (corpus / "run" / "recipe.toml").read_bytes() == before


def test_changed_data_are_taken_when_that_is_wished_and_the_epoch_begins_anew(corpus: Path, seen: list[Seen]) -> None:
    train(recipe(corpus, steps=10), out=corpus / "run", device="cpu")  # three steps into the second epoch
    half = progress(corpus / "run")
    assert (half.epoch, half.position) == (1, 3)
    text = (corpus / "train.tsv").read_text(encoding="utf-8").splitlines()
    (corpus / "train.tsv").write_text("".join(f"{line}\n" for line in text[:30]), encoding="utf-8")
    seen.clear()
    settings = recipe(corpus, steps=None, epochs=2)
    train(settings, out=corpus / "run", device="cpu", allow_data_change=True)
    read = [pair for step in seen for pair in step.pairs]
    assert len(read) == len(set(read)) == 30  # all of the new text, once
    assert progress(corpus / "run").stop == "epochs"
    assert "the training data changed: epoch 2 begins anew" in (corpus / "run" / "log.jsonl").read_text(
        encoding="utf-8"
    )
    train(settings, out=corpus / "run", device="cpu")  # what was allowed once is what the run goes by from then on


def test_the_best_score_is_forgotten_when_that_is_wished(corpus: Path) -> None:
    train(recipe(corpus, steps=4, validate_every=2, metric="loss", save_every=2), out=corpus / "run", device="cpu")
    first = progress(corpus / "run")
    assert first.best is not None
    longer = recipe(corpus, steps=6, validate_every=2, metric="loss", save_every=2)
    train(longer, out=corpus / "run", device="cpu", reset_best=True)
    again = progress(corpus / "run")
    assert again.best_step == 6
    told = (corpus / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert f"the best score so far, {first.best} at step {first.best_step}, is forgotten" in told


def test_patience_that_was_used_up_begins_anew_with_the_best(corpus: Path) -> None:
    constant = {"kind": "constant"}
    stopping = recipe(
        corpus, steps=30, learning_rate=1e-12, validate_every=1, metric="chrf", patience=2, schedule=constant
    )
    assert train(stopping, out=corpus / "run", device="cpu").stop == "patience"
    at = progress(corpus / "run").step
    assert train(stopping, out=corpus / "run", device="cpu").step == at  # it is complete
    assert train(stopping, out=corpus / "run", device="cpu", reset_best=True).step == at + 3


def test_a_changed_text_layer_is_refused(corpus: Path) -> None:
    train(recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    other = recipe(corpus, steps=1)
    smaller = msgspec.structs.replace(other, text=msgspec.structs.replace(other.text, size=15))
    train(smaller, out=corpus / "other", device="cpu")
    (corpus / "run" / "codec").rename(corpus / "aside")
    (corpus / "other" / "codec").rename(corpus / "run" / "codec")
    refused(recipe(corpus, steps=4), corpus / "run", ModelError, "another text layer")


def test_nothing_says_when_to_stop(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="when to stop"):
        train(recipe(corpus, steps=None), out=corpus / "run", device="cpu")


def test_a_folder_that_is_no_run_is_not_thrown_away(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="not a run"):
        train(recipe(corpus), out=corpus, device="cpu", overwrite=True)
    assert (corpus / "train.tsv").exists()


def test_a_wish_to_stop_that_came_while_torchrun_began_is_heeded_before_the_others_are_met(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are gone by then, and waiting for them would take minutes."""

    def meet(device: torch.device) -> Processes:
        raise AssertionError("met")

    monkeypatch.setattr(session, "connect", meet)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Interrupted, match="before the first step") as caught:
        train(recipe(corpus, steps=2), out=corpus / "run", device="cpu", request=StopRequest("SIGTERM", 15))
    assert caught.value.exit_code == 143


def test_overwriting_begins_anew(corpus: Path) -> None:
    train(recipe(corpus, steps=4), out=corpus / "run", device="cpu")
    found = train(recipe(corpus, steps=2, model={"width": 32}), out=corpus / "run", device="cpu", overwrite=True)
    assert found.step == 2
    assert checkpoint.steps(corpus / "run" / "checkpoints") == [2]


def test_a_damaged_checkpoint_is_passed_over_and_its_steps_made_again(corpus: Path, seen: list[Seen]) -> None:
    settings = recipe(corpus, save_every=4)
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
    settings = recipe(corpus, save_every=4)
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
    train(recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    for path in (corpus / "run" / "checkpoints").glob("*/model.safetensors"):
        path.write_bytes(b"")
    seen.clear()
    refused(recipe(corpus, steps=4), corpus / "run", ModelError, "no good checkpoint", "--overwrite")
    assert seen == []


def test_a_hopeless_rate_ends_in_divergence_and_leaves_finite_checkpoints(corpus: Path) -> None:
    settings = recipe(corpus, learning_rate=1e38, save_every=1, steps=60, schedule={"kind": "constant"})
    with pytest.raises(DivergenceError):
        train(settings, out=corpus / "run", device="cpu")
    folder = corpus / "run" / "checkpoints"
    for step in checkpoint.steps(folder):
        found = checkpoint.read(checkpoint.step_path(folder, step))
        assert all(bool(tensor.isfinite().all()) for tensor in found.tensors("model").values()), step


def test_divergence_names_what_is_not_finite_and_what_was_read(corpus: Path) -> None:
    """The rate is so high that sums overflow, and the weights are still numbers."""
    settings = recipe(corpus, learning_rate=1e30, optimizer="sgd", schedule={"kind": "constant"}, steps=60)
    with pytest.raises(DivergenceError) as told:
        train(settings, out=corpus / "run", device="cpu")
    assert re.search(r"in a row, at step \d+: the .* is not finite, with the training examples \d+, ", told.value.what)
    assert "20 steps in a row" in told.value.what


def test_the_published_model_is_the_best_checkpoint(corpus: Path) -> None:
    train(recipe(corpus, validate_every=5, metric="loss", average=0.0), out=corpus / "run", device="cpu")
    best = checkpoint.best(corpus / "run" / "checkpoints")
    assert best is not None
    found = checkpoint.read(checkpoint.step_path(corpus / "run" / "checkpoints", best.step)).tensors("model")
    published = load(corpus / "run" / "model")
    assert published.facts == {"step": best.step, "score": best.score, "metric": "loss"}
    for name, tensor in published.model.named_parameters():
        assert torch.equal(tensor.detach(), found[name])


def test_a_seed_decides_the_run(corpus: Path, seen: list[Seen]) -> None:
    runs = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        train(recipe(corpus, steps=5, seed=seed), out=corpus / name, device="cpu")
        runs.append([*seen])
        seen.clear()
    assert runs[0] == runs[1]
    assert runs[0][0].loss != runs[2][0].loss


@pytest.mark.parametrize("batch_tokens", [13, 40, 4096])
def test_the_development_loss_is_a_sum_over_all_tokens_however_they_are_batched(
    corpus: Path, batch_tokens: int
) -> None:
    settings = recipe(corpus, batch_tokens=batch_tokens)
    settings = msgspec.structs.replace(settings, data=msgspec.structs.replace(settings.data, maximum_length=12))
    task = prepare(settings, corpus / "run")
    assert isinstance(task, TranslationTask)
    assert task.dev is not None
    model = build_model(settings, task.codecs).eval()
    assert isinstance(model, EncoderDecoder)
    validate = task.validator(model, ValidationContext(Processes(), CPU), None)
    assert validate is not None
    tally = validate().tally
    source = task.codecs.source.encode_many(task.dev.source)
    target = task.codecs.target.encode_many(task.dev.target)
    one_by_one = [
        forced_scores(model, pad([[*left, EOS]]), [right])[0] for left, right in zip(source, target, strict=True)
    ]
    nats = -sum(scored.log_prob for scored in one_by_one)
    count = sum(len(scored.log_probs) for scored in one_by_one)
    assert int(tally.tokens) == count
    assert tally.perplexity == pytest.approx(math.exp(nats / count), rel=1e-5)


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("batch_tokens", [40, 13])
def test_two_processes_train_as_one(corpus: Path, seen: list[Seen], batch_tokens: int) -> None:
    """Also where a batch is a single pair, and one process has nothing to do."""
    for processes in (1, 2):
        settings = recipe(
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


class Tracker(Callback):
    """Notes what it is told, and wishes to stop at a step."""

    def __init__(self, *, stop_at: int) -> None:
        self.stop_at = stop_at
        self.scores: list[dict[str, float]] = []

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.progress.step == self.stop_at:
            trainer.stop_reason = "enough"

    def validated(self, trainer: Trainer, report: ValidationReport) -> None:
        self.scores.append(report.scores)


def test_callbacks_of_the_caller_see_a_run_and_may_stop_it(corpus: Path) -> None:
    tracker, run = Tracker(stop_at=5), corpus / "run"
    with pytest.raises(Interrupted, match="enough"):
        train(recipe(corpus, steps=9, validate_every=4), out=run, device="cpu", callbacks=[tracker])
    assert progress(run).step == 6  # all stop together, after the next step
    assert [set(scores) for scores in tracker.scores] == [{"loss", "bleu", "exact"}]
    train(recipe(corpus, steps=9, validate_every=4), out=str(run), device="cpu", callbacks=[tracker])
    assert len(tracker.scores) == 3
