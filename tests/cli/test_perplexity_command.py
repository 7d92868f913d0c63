"""`seqkit perplexity` and `seqkit score` as typed: one number however it is batched, and beside it what was done."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seqkit.cli.main import main

Captured = pytest.CaptureFixture[str]

TALE = "the cat saw a dog and the dog saw the cat in a house near the old river"
WORDS = TALE.split()


def text(lines: int, *, seed: int) -> str:
    """Lines of three to nine words that follow each other in a pattern."""
    return "".join(
        " ".join(WORDS[(seed + 3 * i + j * (1 + i % 2)) % len(WORDS)] for j in range(3 + (i * 7 + seed) % 7)) + "\n"
        for i in range(lines)
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, an LSTM and a 3-gram of the same tokens, a model of lines, and one of characters."""
    here = tmp_path_factory.mktemp("perplexity")
    for name, lines, seed in (("train", 80, 1), ("dev", 12, 5), ("test", 15, 9)):
        (here / f"{name}.txt").write_text(text(lines, seed=seed), encoding="utf-8")
    data = [f'data.train=["{here / "train.txt"}"]', f'data.dev=["{here / "dev.txt"}"]', "train.processes=1"]
    stream = ["data.kind=stream", "data.window=8", "train.batch_tokens=64", "train.learning_rate=0.01"]
    words = ["text.kind=words", "text.split=spaces"]
    small = ["model.width=12", "model.embedding=12", "train.steps=30", "train.schedule=constant"]
    runs = {
        "lstm": [*stream, *words, "model.kind=recurrent_language_model", *small],
        "ngram": ["data.kind=stream", *words, "model.kind=ngram", "model.order=3"],
        "lines": ["data.kind=lines", *words, "model.kind=recurrent_language_model", *small],
        "letters": ["data.kind=stream", "text.kind=characters", "model.kind=ngram", "model.order=3"],
    }
    for name, settings in runs.items():
        words_ = ["-q", "train", "--train", str(here / "train.txt"), "--out", str(here / name), *data, *settings]
        assert main(words_) == 0
    return here


def figures(capsys: Captured, *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["perplexity", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("context", [[], ["--context", "lines"], ["--context", "whole"], ["--context", "6"]])
@pytest.mark.parametrize(
    "model", ["lstm", "ngram", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lines", "letters"))]
)
def test_the_number_does_not_depend_on_the_batch(
    folder: Path, model: str, context: list[str], capsys: Captured
) -> None:
    found = [
        figures(capsys, folder / model, folder / "test.txt", *context, "--batch-tokens", size)["nll"]
        for size in (1, 7, 64, 4096)
    ]
    assert found == pytest.approx([found[0]] * 4, rel=1e-6)


def test_what_is_counted_does_not_depend_on_the_model(folder: Path, capsys: Captured) -> None:
    raw = (folder / "test.txt").read_text(encoding="utf-8")
    for model in ("lstm", "ngram", "lines", "letters"):
        found = figures(capsys, folder / model, folder / "test.txt")
        assert (found["lines"], found["characters"], found["bytes"]) == (raw.count("\n"), len(raw), len(raw))
        assert found["words"] == len(raw.split()) + raw.count("\n")
        nll = float(str(found["nll"]))
        assert found["perplexity_per_word"] == pytest.approx(math.exp(nll / (len(raw.split()) + raw.count("\n"))))
        assert found["bits_per_character"] == pytest.approx(nll / math.log(2) / len(raw))


def test_rows_of_lines_add_up_to_the_text(folder: Path, capsys: Captured) -> None:
    total = figures(capsys, folder / "lstm", folder / "test.txt")
    assert main(["perplexity", str(folder / "lstm"), str(folder / "test.txt"), "--per-line"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["line", "tokens", "log_prob", "perplexity"]
    assert [int(row.split("\t")[0]) for row in rows] == list(range(1, 16))
    assert sum(int(row.split("\t")[1]) for row in rows) == total["tokens"]
    assert -sum(float(row.split("\t")[2]) for row in rows) == pytest.approx(total["nll"], rel=1e-6)
    assert main(["score", str(folder / "lstm"), str(folder / "test.txt")]) == 0
    scored = capsys.readouterr().out.splitlines()
    assert [row.split("\t")[3] for row in scored] == (folder / "test.txt").read_text(encoding="utf-8").splitlines()
    assert -sum(float(row.split("\t")[0]) for row in scored) == pytest.approx(total["nll"], rel=1e-6)


def test_a_tuned_mixture_with_a_cache_is_named_and_no_worse_than_its_parts(folder: Path, capsys: Captured) -> None:
    alone = [float(str(figures(capsys, folder / name, folder / "dev.txt")["nll"])) for name in ("lstm", "ngram")]
    both = f"{folder / 'lstm'}+{folder / 'ngram'}"
    tuned = ["--weights", f"tune:{folder / 'dev.txt'}"]
    mixed = figures(capsys, both, folder / "dev.txt", *tuned)
    assert float(str(mixed["nll"])) <= min(alone) + 1e-3
    assert "ngram" in str(mixed["mixture"])
    assert "tuned on" in str(mixed["mixture"])
    cached = figures(capsys, both, folder / "dev.txt", *tuned, "--cache", 20)
    assert float(str(cached["nll"])) <= float(str(mixed["nll"])) + 1e-3
    assert "cache of 20 tokens" in str(cached["mixture"])
    assert sum(cached["weights"]) == pytest.approx(1)
    given = figures(capsys, both, folder / "dev.txt", "--weights", "1,0")
    assert given["nll"] == pytest.approx(alone[0])


def test_dynamic_evaluation_learns_a_copy(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    again = tmp_path / "again.txt"
    again.write_text("river old near the saw cat dog\n" * 30, encoding="utf-8")
    for context in ("whole", "lines", "8"):
        before = figures(capsys, folder / "lstm", again, "--context", context)
        learning = figures(capsys, folder / "lstm", again, "--context", context, "--dynamic", 0.3)
        assert float(str(learning["nll"])) < 0.9 * float(str(before["nll"]))
        assert "rate 0.3" in str(learning["dynamic"])
        frozen = figures(capsys, folder / "lstm", again, "--context", context, "--dynamic", 1e-12)
        assert frozen["nll"] == pytest.approx(before["nll"], rel=1e-5)
    assert figures(capsys, folder / "lstm", again) == figures(capsys, folder / "lstm", again)


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["lstm+letters", "test.txt", "--weights", "0.5,0.5"], 4, "text.from"),
        (["lstm+ngram", "test.txt"], 2, "--weights"),
        (["lstm+ngram", "test.txt", "--weights", "0.5,0.6"], 2, "1 in all"),
        (["lstm+ngram", "test.txt", "--weights", "half,half"], 2, "tune:FILE"),
        (["lstm", "test.txt", "--weights", "1"], 2, "RUN+RUN"),
        (["lstm", "test.txt", "--context", "4", "--overlap", "4"], 2, "overlap"),
        (["lstm", "test.txt", "--context", "line"], 2, "whole"),
        (["lstm", "test.txt", "--overlap", "4"], 2, "--context"),
        (["ngram", "test.txt", "--dynamic", "0.1"], 2, "--dynamic"),
        (["lstm", "none.txt"], 3, "none.txt"),
        (["lstm", "empty.txt"], 3, "empty.txt"),
        (["rnu", "test.txt"], 4, "rnu"),
    ],
)
def test_mistakes_are_two_lines(
    words: list[str], code: int, named: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty.txt").touch()
    capsys.readouterr()
    assert main(["perplexity", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 2
    assert named in err


def test_what_is_left_out_or_unknown_is_said(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"the cat saw a zebra\n\n\xff\xfe\nthe dog\n")
    found = figures(capsys, folder / "lines", odd)
    assert found["lines"] == 2
    assert found["unknown"] == 1
    assert "1 lines left out: blank" in str(found["notes"])
    assert "1 lines left out: bad UTF-8" in str(found["notes"])
    assert math.isfinite(float(str(found["nll"])))
