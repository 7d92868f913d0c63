"""Text in one language: windows of a stream or lines by themselves, and what is said of what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.config import build
from seqkit.engine.token_scores import Blocks
from seqkit.errors import ConfigError, DataError
from seqkit.parallel.processes import Processes
from seqkit.settings import Recipe, Stream
from seqkit.settings.automatic import resolve
from seqkit.tasks import prepare
from seqkit.tasks.language_task import LanguageTask, context_of, partition_of, sequences
from seqkit.text.vocabulary import EOS

LINES = ["a b c", "d", "e f g h", "", "a a"]
LSTM = {"kind": "recurrent_language_model", "width": 8, "embedding": 8}
TRANSFORMER = {"kind": "transformer_language_model", "width": 8, "heads": 2}
NGRAM = {"kind": "ngram"}


def recipe_of(
    folder: Path, kind: str, model: dict[str, object], *, text: object = "words", budget: int = 8, **data: object
) -> Recipe:
    (folder / "train.txt").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    train = {} if model["kind"] == "ngram" else {"train": {"steps": 1, "batch_tokens": budget}}
    tree = {"data": {"kind": kind, "train": [str(folder / "train.txt")], **data}, "text": text, "model": model, **train}
    return resolve(build(tree, where="the test"))


def task_of(folder: Path, kind: str, model: dict[str, object], *, budget: int = 8, **data: object) -> LanguageTask:
    task = prepare(recipe_of(folder, kind, model, budget=budget, **data), folder / "run")
    assert isinstance(task, LanguageTask)
    return task


def test_a_stream_reads_every_token_of_every_line_blank_ones_included(tmp_path: Path) -> None:
    task = task_of(tmp_path, "stream", LSTM, window=4)
    tokens = sum(len(line.split()) for line in LINES) + len(LINES)
    assert task.summary == f"{len(LINES)} training lines, {tokens} tokens, no development text"
    [counted] = sequences(task)
    assert (len(counted), int((counted == EOS).sum()), counted[-1]) == (tokens, len(LINES), EOS)
    assert task.stream(Processes()).carries == 2  # rows of eight tokens in windows of four


def test_lines_stand_by_themselves_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    task = task_of(tmp_path, "lines", LSTM)
    assert len(task.lines) == len(LINES) - 1
    assert [len(line) for line in sequences(task)] == [len(line.split()) + 1 for line in LINES if line]
    stream = task.stream(Processes())
    assert stream.carries == 0
    assert sum(group.tokens for group in stream.groups(0)) == sum(map(len, sequences(task)))


def test_lines_that_are_too_long_are_counted(tmp_path: Path) -> None:
    task = task_of(tmp_path, "lines", LSTM, maximum_length=3)
    assert len(task.lines) == 3
    assert "1 training lines dropped: too long" in task.notes
    (tmp_path / "other").mkdir()
    assert task.fingerprint != task_of(tmp_path / "other", "lines", LSTM).fingerprint


@pytest.mark.parametrize(
    ("kind", "model", "partition", "context"),
    [
        ("stream", LSTM, "sequential", "whole"),
        ("stream", TRANSFORMER, "random", Blocks(6, 3)),
        ("stream", NGRAM, None, "whole"),
        ("lines", LSTM, None, "lines"),
        ("lines", NGRAM, None, "lines"),
    ],
)
def test_what_carries_a_state_reads_in_order_and_is_scored_as_it_is_trained(
    kind: str, model: dict[str, object], partition: str | None, context: object, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, kind, model, **({"window": 6} if kind == "stream" else {}))
    if partition is not None:
        assert isinstance(recipe.data, Stream)
        assert partition_of(recipe, recipe.data) == partition
    assert context_of(recipe) == context


@pytest.mark.parametrize(
    ("window", "budget", "words"),
    [(4, 8, None), (50, 50, "less than one window of 50"), (4, 64, "rows of 4 instead of 16")],
)
def test_a_text_that_fills_no_batch_is_said(window: int, budget: int, words: str | None, tmp_path: Path) -> None:
    task = task_of(tmp_path, "stream", LSTM, window=window, budget=budget)
    assert [words in note for note in task.notes if words is not None] == ([] if words is None else [True])
    assert words is not None or task.notes == []


def test_a_text_of_nothing_but_long_lines_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "lines", LSTM, maximum_length=2)
    (tmp_path / "train.txt").write_text("a b c d\n", encoding="utf-8")
    with pytest.raises(DataError, match="no usable training line"):
        prepare(recipe, tmp_path / "run")


def test_a_stream_is_encoded_once_and_cannot_be_sampled_anew(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "stream", LSTM, text={"kind": "sentencepiece", "size": 280, "sampling": 0.1}, window=8)
    (tmp_path / "train.txt").write_text("the lower the newest\nlow lower lowest\n" * 20, encoding="utf-8")
    with pytest.raises(ConfigError, match="a stream is encoded once"):
        prepare(recipe, tmp_path / "run")
