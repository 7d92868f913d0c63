"""Every kind of model, text layer, optimizer and schedule: a run that was stopped is the run that never was, bit for
bit, wherever the wish to stop comes, also in the middle of a validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from seqkit.config import build
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.demo import reverse
from seqkit.errors import Interrupted
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.storage import checkpoint
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Trainer, Update
from tests.support.sessions import AfterLooks, events, progress, same, scored, stopped

Table = dict[str, Any]

PAIRS: Table = {"kind": "pairs"}
LINES: Table = {"kind": "lines"}
STREAM: Table = {"kind": "stream", "window": 8}
WINDOWS: Table = STREAM | {"partition": "random"}
LABELLED: Table = {"kind": "labelled"}

WORDS: Table = {"kind": "words", "split": "spaces"}
APART: Table = WORDS | {"joint": False}
DROPPED: Table = {"kind": "sentencepiece", "size": 45, "byte_fallback": False, "sampling": 0.3}
SAMPLED: Table = DROPPED | {"algorithm": "unigram"}

PLAIN: Table = {"kind": "plain", "width": 8, "embedding": 8, "dropout": 0.2}
RECURRENT: Table = {"kind": "recurrent", "width": 8, "embedding": 8, "dropout": 0.2}
TRANSFORMER: Table = {"kind": "transformer", "width": 8, "heads": 2, "feed_forward": 8, "dropout": 0.2}
TRANSFORMER |= {"encoder_layers": 1, "decoder_layers": 1}
MIXED: Table = {"kind": "mixed", "width": 8, "heads": 2, "feed_forward": 8, "encoder_layers": 1, "dropout": 0.2}
SPEAKER: Table = {"kind": "recurrent_language_model", "width": 8, "embedding": 8, "dropout": 0.2}
REGULARISED: Table = SPEAKER | {"layers": 2, "locked": True, "hidden_dropout": 0.2, "input_dropout": 0.1}
REGULARISED |= {"weight_drop": 0.3, "embedding_dropout": 0.1, "activation_penalty": 1.0, "slowness_penalty": 1.0}
READER: Table = {"kind": "transformer_language_model", "width": 8, "heads": 2, "feed_forward": 8, "layers": 1}
READER |= {"dropout": 0.2}
TAGGER: Table = {"kind": "recurrent_labeller", "width": 8, "embedding": 8, "dropout": 0.2}
LABELLER: Table = {"kind": "transformer_labeller", "width": 8, "heads": 2, "feed_forward": 8, "layers": 1}
LABELLER |= {"dropout": 0.2}

LINEAR: Table = {"kind": "linear", "warmup": 3}
COSINE: Table = {"kind": "cosine", "warmup": 3}
INVERSE: Table = {"kind": "inverse_square_root", "warmup": 9}
CONSTANT: Table = {"kind": "constant", "warmup": 9}


class Case(NamedTuple):
    """One experiment."""

    data: Table
    text: Table
    model: Table
    train: Table = {}  # noqa: RUF012 - never written to


CASES = {
    "plain-rnn": Case(PAIRS, WORDS, PLAIN | {"cell": "rnn"}, {"optimizer": "sgd", "schedule": CONSTANT}),
    "plain-gru": Case(PAIRS, WORDS, PLAIN | {"layers": 2}, {"optimizer": "adam", "schedule": LINEAR}),
    "plain-lstm": Case(PAIRS, DROPPED, PLAIN | {"cell": "lstm"}, {"optimizer": "rmsprop", "schedule": COSINE}),
    "rnn-bilinear": Case(PAIRS, APART, RECURRENT | {"cell": "rnn", "attention": "bilinear", "tied": "none"}),
    "gru-additive": Case(PAIRS, DROPPED, RECURRENT, {"optimizer": "muon", "schedule": COSINE}),
    "gru-additive-feeding": Case(PAIRS, WORDS, RECURRENT | {"input_feeding": True}, {"schedule": LINEAR}),
    "lstm-dot": Case(PAIRS, SAMPLED, RECURRENT | {"cell": "lstm", "attention": "dot"}, {"optimizer": "sgd"}),
    "lstm-dot-feeding": Case(
        PAIRS, WORDS, RECURRENT | {"cell": "lstm", "attention": "dot", "input_feeding": True, "decoder_layers": 2}
    ),
    "transformer": Case(PAIRS, DROPPED, TRANSFORMER, {"optimizer": "muon", "schedule": LINEAR}),
    "transformer-rotary": Case(
        PAIRS, WORDS, TRANSFORMER | {"positions": "rotary", "activation": "swiglu", "attention_dropout": 0.2}
    ),
    "transformer-learned": Case(
        PAIRS, SAMPLED, TRANSFORMER | {"positions": "learned", "norm": "post"}, {"schedule": COSINE}
    ),
    "mixed-lstm": Case(PAIRS, DROPPED, MIXED, {"schedule": LINEAR}),
    "mixed-gru-feeding": Case(PAIRS, WORDS, MIXED | {"cell": "gru", "attention": "additive", "input_feeding": True}),
    "language-rnn-lines": Case(LINES, WORDS, SPEAKER | {"cell": "rnn"}, {"schedule": LINEAR}),
    "language-gru-lines": Case(LINES, DROPPED, SPEAKER | {"cell": "gru"}, {"optimizer": "adam"}),
    "language-lstm-lines": Case(LINES, SAMPLED, REGULARISED, {"optimizer": "muon", "schedule": COSINE}),
    "language-rnn-carried": Case(STREAM, WORDS, SPEAKER | {"cell": "rnn"}, {"schedule": COSINE}),
    "language-gru-carried": Case(STREAM, WORDS, SPEAKER | {"cell": "gru", "layers": 2}, {"schedule": LINEAR}),
    "language-lstm-carried": Case(STREAM, WORDS, REGULARISED, {"optimizer": "sgd", "schedule": CONSTANT}),
    "language-lstm-averaged": Case(
        STREAM, WORDS, REGULARISED, {"optimizer": {"kind": "averaged_sgd", "patience": 1}, "average": 0.0}
    ),
    "language-lstm-windows": Case(WINDOWS, WORDS, SPEAKER, {"schedule": COSINE}),
    "language-transformer-lines": Case(LINES, DROPPED, READER, {"optimizer": "muon", "schedule": LINEAR}),
    "language-transformer-windows": Case(WINDOWS, WORDS, READER | {"attention_dropout": 0.2}, {"schedule": COSINE}),
    "labels-lstm": Case(LABELLED, APART, TAGGER, {"optimizer": "muon", "schedule": LINEAR}),
    "labels-gru": Case(LABELLED, APART, TAGGER | {"cell": "gru", "layers": 2}, {"schedule": COSINE}),
    "labels-rnn": Case(LABELLED, APART, TAGGER | {"cell": "rnn", "bidirectional": False}),
    "labels-transformer": Case(LABELLED, APART, LABELLER, {"optimizer": "rmsprop", "schedule": CONSTANT}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

EVERY = 4  # steps between validations


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, float]]:
    """Loss, rate and norm of every step of every run of the test."""
    found: list[tuple[float, float, float]] = []
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        made = original(self, group)
        found.append((made.tally.loss, made.rate, made.norm))
        return made

    monkeypatch.setattr(Trainer, "step", step)
    return found


def recipe(case: Case, folder: Path, **settings: Any) -> Recipe:
    """A run over files that are written into the folder, with all that draws random numbers."""
    train_part, dev_part = files(case.data["kind"], folder)
    fixed: Table = {
        "steps": 13,
        "batch_tokens": 64,
        "accumulate": 2,
        "average": 0.9,
        "validate_every": EVERY,
        "schedule": INVERSE,
        "processes": 1,
        "precision": "float32",
        "output_precision": "float32",
        "keep_heap": False,
        "keep": 100,
    }
    tables = {
        "data": {**case.data, "train": [train_part], "dev": [dev_part]},
        "text": case.text,
        "model": case.model,
        "train": {**fixed, **case.train, **settings},
    }
    return build(tables, where="the test")


def files(kind: str, folder: Path) -> tuple[str, str]:
    """A training and a development file for a kind of data."""
    if kind == "labelled":
        parts = [labels_demo.sentences(size, seed=seed).dump() for size, seed in ((40, 1), (8, 2))]
    else:
        pairs = reverse(48, seed=1)
        rows = [f"{source}\t{target}\n" if kind == "pairs" else f"{source} {target}\n" for source, target in pairs]
        parts = ["".join(rows[:40]).encode(), "".join(rows[40:]).encode()]
    for name, content in zip(("train", "dev"), parts, strict=True):
        (folder / name).write_bytes(content)
    return str(folder / "train"), str(folder / "dev")


def equal(one: Path, other: Path) -> None:
    """Weights, average, optimizer, carried state, progress at every save, and all that validation found."""
    same(one, other)
    for step in checkpoint.steps(other / "checkpoints"):
        assert progress(one, step) == progress(other, step)
    assert scored(one) == scored(other)
    assert len(events(one, "valid")) > 1


@pytest.mark.slow
@every_case
def test_a_stop_in_the_middle_of_an_epoch_changes_nothing(
    case: Case, tmp_path: Path, numbers: list[tuple[float, float, float]]
) -> None:
    settings = recipe(case, tmp_path)
    train(settings, out=tmp_path / "straight", device="cpu")
    straight = [*numbers]
    numbers.clear()
    stopped(settings, tmp_path / "stopped", at=7)
    half = progress(tmp_path / "stopped")
    assert half.position > 0
    train(settings, out=tmp_path / "stopped", device="cpu")
    assert numbers == straight
    assert len({loss for loss, _, _ in numbers}) == 13
    equal(tmp_path / "stopped", tmp_path / "straight")


@pytest.mark.slow
@every_case
def test_a_validation_that_was_left_is_made_anew(case: Case, tmp_path: Path) -> None:
    """A run looks for wishes after each step, so the first look in the validation is the fifth."""
    settings = recipe(case, tmp_path, steps=2 * EVERY + 1)
    train(settings, out=tmp_path / "straight", device="cpu")
    with pytest.raises(Interrupted):
        train(settings, out=tmp_path / "left", device="cpu", request=AfterLooks(EVERY + 2))
    half = progress(tmp_path / "left")
    assert (half.step, half.validated, half.best) == (EVERY, 0, None)
    assert events(tmp_path / "left", "valid") == []
    train(settings, out=tmp_path / "left", device="cpu")
    equal(tmp_path / "left", tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain-gru", "language-transformer-windows", "labels-gru"])
def test_a_wish_may_come_at_any_moment(name: str, tmp_path: Path) -> None:
    """After each step, between all batches of the loss and of the search, also of the last validation."""
    settings = recipe(CASES[name], tmp_path, steps=3, validate_every=2, batch_tokens=48)
    request = AfterLooks(10**6)
    train(settings, out=tmp_path / "straight", device="cpu", request=request)
    looks = 10**6 - request.looks
    assert looks >= 3 + 2 * 4
    steps = []
    for look in range(1, looks + 1):
        out = tmp_path / str(look)
        try:
            train(settings, out=out, device="cpu", request=AfterLooks(look))
        except Interrupted:
            steps.append(progress(out).step)
            train(settings, out=out, device="cpu")
        equal(out, tmp_path / "straight")
    assert set(steps) == {2, 3}
    assert len(steps) >= looks - 2  # the very last ones come too late


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stop_at_the_end_of_the_last_epoch_is_the_end(ahead: int, tmp_path: Path) -> None:
    """Also where the last validation is left: no epoch is added, and the validation is made."""
    settings = recipe(CASES["plain-rnn"], tmp_path, steps=None, epochs=2)
    train(settings, out=tmp_path / "straight", device="cpu")
    last = progress(tmp_path / "straight").step
    stopped(settings, tmp_path / "stopped", at=last - ahead)
    assert progress(tmp_path / "stopped").validated < last
    train(settings, out=tmp_path / "stopped", device="cpu")
    equal(tmp_path / "stopped", tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_leave_a_validation_together(tmp_path: Path) -> None:
    settings = recipe(CASES["plain-gru"], tmp_path, steps=6, processes=2)
    train(settings, out=tmp_path / "straight", device="cpu")
    with pytest.raises(Interrupted):
        train(settings, out=tmp_path / "left", device="cpu", request=AfterLooks(EVERY + 2))
    half = progress(tmp_path / "left")
    assert (half.step, half.validated) == (EVERY, 0)
    train(settings, out=tmp_path / "left", device="cpu")
    equal(tmp_path / "left", tmp_path / "straight")
