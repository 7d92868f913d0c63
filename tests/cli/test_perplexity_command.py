"""`seqkit perplexity` as typed: every option arrives, rows add up, and what was done stands beside the number."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from seqkit.cli.main import main
from seqkit.inference.evaluation import ScoringOptions, score_files

Captured = pytest.CaptureFixture[str]


def figures(capsys: Captured, *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["perplexity", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["--context", "lines"], {"context": ("lines", None, None)}),
        (["--context", "6", "--overlap", "1"], {"context": ("blocks", 6, 1)}),
        (["--cache", "20", "--flatness", "0.5", "--weights", "0.7,0.3"],
         {"cache": 20, "flatness": 0.5, "weights": "0.7,0.3"}),
        (["--dynamic", "0.3", "--batch-tokens", "7"], {"dynamic": 0.3, "budget": 7}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_every_option_arrives(words: list[str], options: dict[str, Any], language_runs: Path, capsys: Captured) -> None:
    model, test = language_runs / "lstm", language_runs / "test.txt"
    expected = score_files([model], [str(test)], ScoringOptions(**options))
    shown = figures(capsys, model, test, *words)
    assert shown["nll"] == pytest.approx(expected.figures.nll, rel=1e-9)
    assert (shown["context"], shown["mixture"] or "") == (expected.context, expected.mixture)
    assert shown["perplexity_per_word"] == pytest.approx(expected.figures.per_word)
    assert shown["weights"] == expected.weights


def test_rows_of_lines_add_up_to_the_text(language_runs: Path, capsys: Captured) -> None:
    total = figures(capsys, language_runs / "lstm", language_runs / "test.txt")
    assert main(["perplexity", str(language_runs / "lstm"), str(language_runs / "test.txt"), "--per-line"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["line", "tokens", "log_prob", "perplexity"]
    assert [int(row.split("\t")[0]) for row in rows] == list(range(1, 16))
    assert sum(int(row.split("\t")[1]) for row in rows) == total["tokens"]
    assert -sum(float(row.split("\t")[2]) for row in rows) == pytest.approx(total["nll"], rel=1e-6)


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
    words: list[str], code: int, named: str, language_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(language_runs)
    (language_runs / "empty.txt").touch()
    capsys.readouterr()
    assert main(["perplexity", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 2
    assert named in err


def test_what_is_left_out_or_unknown_is_said(language_runs: Path, tmp_path: Path, capsys: Captured) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_bytes(b"the cat saw a zebra\n\n\xff\xfe\nthe dog\n")
    found = figures(capsys, language_runs / "lines", odd)
    assert found["lines"] == 2
    assert found["unknown"] == 1
    assert "1 lines left out: blank" in str(found["notes"])
    assert "1 lines left out: bad UTF-8" in str(found["notes"])
    assert math.isfinite(float(str(found["nll"])))
