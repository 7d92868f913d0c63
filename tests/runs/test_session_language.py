"""Whole runs of small language models: the state they carry survives a stop, and their figures are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.config import build
from seqkit.errors import DataError
from seqkit.inference.evaluation import ScoringOptions, score_files
from seqkit.runs.session import train
from seqkit.runs.trained_model import load
from seqkit.settings import Recipe
from seqkit.state import tensors_of
from seqkit.training.reading import BatchGroup
from seqkit.training.trainer import Trainer, Update
from tests.support.sessions import progress, refused, same, same_tensors, scored, stopped, tensors

STREAM: dict[str, Any] = {"kind": "stream", "window": 7}
LINES: dict[str, Any] = {"kind": "lines"}
LSTM: dict[str, Any] = {
    "kind": "recurrent_language_model",
    "layers": 2,
    "width": 8,
    "embedding": 8,
    "dropout": 0.2,
    "hidden_dropout": 0.2,
    "weight_drop": 0.3,
    "embedding_dropout": 0.1,
    "activation_penalty": 1.0,
}
READER = {"kind": "transformer_language_model", "width": 8, "heads": 2, "feed_forward": 8, "layers": 1, "dropout": 0.1}
NGRAM = {"kind": "ngram", "order": 3}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lstm-stream": (LSTM, STREAM),
    "lstm-locked-stream": (LSTM | {"locked": True}, STREAM),
    "gru-lines": (LSTM | {"cell": "gru", "weight_drop": 0.0}, LINES),
    "transformer-stream": (READER, STREAM),
    "transformer-lines": (READER, LINES),
}
FIRST_TRIED = ("lstm-locked-stream", "transformer-lines")  # in the quick tier
every_family = pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param(
            *pair, id=name, marks=[pytest.mark.slow] * (name not in ("lstm-locked-stream", "transformer-lines"))
        )
        for name, pair in FAMILIES.items()
    ],
)


class Seen(NamedTuple):
    """One step: its numbers, and the state that the first row had before it, if any."""

    loss: float
    rate: float
    norm: float
    before: list[float] | None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every step of every run of the test, as it happened."""
    steps: list[Seen] = []
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        carried = tensors_of(self.carried)
        before = carried[0][0].flatten().tolist() if carried else None
        made = original(self, group)
        steps.append(Seen(made.tally.loss, made.rate, made.norm, before))
        return made

    monkeypatch.setattr(Trainer, "step", step)
    return steps


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Lines of words that follow each other by a rule with exceptions: 60 to train on, 12 to validate on."""
    random = np.random.default_rng(0)
    lines = []
    for _ in range(72):
        ids = [int(random.integers(9))]
        while len(ids) < int(random.integers(2, 9)):
            ids.append((ids[-1] + 2) % 9 if random.random() < 0.8 else int(random.integers(9)))
        lines.append(" ".join(f"w{each}" for each in ids))
    (tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in lines[:60]), encoding="utf-8")
    (tmp_path / "dev.txt").write_text("".join(f"{line}\n" for line in lines[60:]), encoding="utf-8")
    return tmp_path


def recipe(corpus: Path, model: dict[str, Any], data: dict[str, Any], *, dev: bool = True, **settings: Any) -> Recipe:
    files = {"train": [str(corpus / "train.txt")], "dev": [str(corpus / "dev.txt")] if dev else []}
    fixed: dict[str, Any] = {
        "steps": 20,
        "batch_tokens": 28,
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
    if model["kind"] == "ngram":
        fixed = {}
    tables = {
        "data": {**data, **files},
        "text": {"kind": "words", "split": "spaces"},
        "model": model,
        "train": {**fixed, **settings},
    }
    return build({name: table for name, table in tables.items() if table}, where="the test")


@every_family
def test_a_stop_in_the_middle_of_an_epoch_changes_nothing(
    corpus: Path, seen: list[Seen], model: dict[str, Any], data: dict[str, Any]
) -> None:
    """Weights, average, optimizer and carried state, bit for bit."""
    settings = recipe(corpus, model, data)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "stopped", at=9)
    assert progress(corpus / "stopped").position > 0
    train(settings, out=corpus / "stopped", device="cpu")
    assert seen == straight
    assert len({step.loss for step in seen}) == 20
    same(corpus / "stopped", corpus / "straight")
    carries = model["kind"] == "recurrent_language_model" and data["kind"] == "stream"
    assert any(name.startswith("state/") for name in tensors(corpus / "stopped")) == carries


def test_a_stream_carries_its_state_from_window_to_window_and_begins_each_epoch_anew(
    corpus: Path, seen: list[Seen]
) -> None:
    train(recipe(corpus, LSTM, STREAM, steps=None, epochs=2, accumulate=1), out=corpus / "run", device="cpu")
    half = len(seen) // 2
    fresh = [seen[0].before, seen[1].before]
    assert fresh[0] is None
    assert fresh[1] is not None
    assert any(fresh[1])
    states = [step.before for step in seen[1:]]
    assert len({str(state) for state in states}) == len(states)
    assert half > 3


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 9, 10, 11, *(pytest.param(at, marks=pytest.mark.slow) for at in (6, 7, 8, 19, 20))])
def test_a_stop_anywhere_changes_nothing(corpus: Path, seen: list[Seen], at: int) -> None:
    settings = recipe(corpus, LSTM, STREAM, validate_every=10)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    stopped(settings, corpus / "stopped", at=at)
    train(settings, out=corpus / "stopped", device="cpu")
    assert seen == straight
    same(corpus / "stopped", corpus / "straight")
    assert scored(corpus / "stopped") == scored(corpus / "straight")


@every_family
def test_looking_does_not_disturb(corpus: Path, seen: list[Seen], model: dict[str, Any], data: dict[str, Any]) -> None:
    train(recipe(corpus, model, data, steps=8, validate_every=3), out=corpus / "watched", device="cpu")
    watched = [*seen]
    seen.clear()
    train(recipe(corpus, model, data, steps=8, dev=False), out=corpus / "blind", device="cpu")
    assert seen == watched
    same_tensors(corpus / "watched", corpus / "blind")


def validations(run: Path) -> list[dict[str, Any]]:
    events = [msgspec.json.decode(line) for line in (run / "log.jsonl").read_bytes().splitlines()]
    return [event for event in events if event["event"] == "valid"]


@pytest.mark.parametrize(
    ("model", "data"), [*FAMILIES.values(), (NGRAM, STREAM), (NGRAM, LINES)], ids=[*FAMILIES, "ngram", "ngram-lines"]
)
def test_what_validation_says_is_what_the_command_says(
    corpus: Path, model: dict[str, Any], data: dict[str, Any]
) -> None:
    """One number for one model and one text, whoever asks."""
    limits: dict[str, Any] = {} if model["kind"] == "ngram" else {"steps": 6, "validate_every": 6}
    train(recipe(corpus, model, data, **limits), out=corpus / "run", device="cpu")
    said = validations(corpus / "run")[-1]
    found = score_files([corpus / "run"], [str(corpus / "dev.txt")], ScoringOptions()).figures
    assert found.nll / found.tokens == pytest.approx(said["loss"], rel=1e-5)
    assert found.tokens == said["tokens"]
    assert load(corpus / "run").facts["score"] == pytest.approx(said["loss"])


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batch_tokens", [28, 21, 7])
def test_two_processes_train_as_one(corpus: Path, seen: list[Seen], batch_tokens: int, accumulate: int) -> None:
    """With carried state too: rows are dealt out, and each keeps its own; also where one process has no row at all."""
    quiet = {name: value for name, value in LSTM.items() if name in ("kind", "layers", "width", "embedding")}
    limits: dict[str, Any] = {
        "average": 0.0,
        "steps": None,
        "epochs": 2,
        "batch_tokens": batch_tokens,
        "accumulate": accumulate,
    }
    for processes in (1, 2):
        settings = recipe(corpus, quiet, STREAM, processes=processes, validate_every=5, **limits)
        train(settings, out=corpus / str(processes), device="cpu")
    alone, together = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert [step.loss for step in together] == pytest.approx([step.loss for step in alone], rel=1e-5)
    assert [step.norm for step in together] == pytest.approx([step.norm for step in alone], rel=1e-3)
    one, two = progress(corpus / "1"), progress(corpus / "2")
    assert (one.step, one.tokens, one.epoch, one.position) == (two.step, two.tokens, two.epoch, two.position)


@pytest.mark.slow
@pytest.mark.distributed
def test_what_two_processes_carried_one_takes_up(corpus: Path, seen: list[Seen]) -> None:
    quiet = {name: value for name, value in LSTM.items() if name in ("kind", "layers", "width", "embedding")}
    settings = recipe(corpus, quiet, STREAM, average=0.0)
    train(settings, out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    train(recipe(corpus, quiet, STREAM, average=0.0, steps=9, processes=2), out=corpus / "moved", device="cpu")
    train(settings, out=corpus / "moved", device="cpu")
    assert [step.loss for step in seen] == pytest.approx([step.loss for step in straight], rel=1e-5)
    state = {name: value for name, value in tensors(corpus / "moved").items() if name.startswith("state/")}
    close({name: tensors(corpus / "straight")[name] for name in state}, state)


def close(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", [NGRAM, LSTM], ids=["ngram", "lstm"])
def test_changed_data_are_refused(corpus: Path, model: dict[str, Any]) -> None:
    limits: dict[str, Any] = {} if model is NGRAM else {"steps": 2}
    train(recipe(corpus, model, STREAM, **limits), out=corpus / "run", device="cpu")
    with (corpus / "train.txt").open("a", encoding="utf-8") as stream:
        stream.write("w1 w2\n")
    limits = {} if model is NGRAM else {"steps": 4}
    refused(recipe(corpus, model, STREAM, **limits), corpus / "run", DataError, "changed since")


@pytest.mark.parametrize("content", ["", "\n\n"])
@pytest.mark.parametrize("model", [NGRAM, LSTM], ids=["ngram", "lstm"])
def test_a_text_without_words_is_an_error_that_names_it(corpus: Path, model: dict[str, Any], content: str) -> None:
    (corpus / "train.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.txt"):
        train(recipe(corpus, model, STREAM), out=corpus / "run", device="cpu")


def test_a_text_shorter_than_one_window_is_learnt_and_said(corpus: Path) -> None:
    (corpus / "train.txt").write_text("w1 w2\nw3\n", encoding="utf-8")
    found = train(
        recipe(corpus, LSTM, STREAM | {"window": 50}, steps=3, batch_tokens=50), out=corpus / "run", device="cpu"
    )
    assert found.step == 3
    assert found.tokens == 3 * 5  # three words and two ends, one row
