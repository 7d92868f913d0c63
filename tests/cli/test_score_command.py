"""`seqkit score`: a row a line, which add up to what `seqkit perplexity` says of the text."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seqkit.cli.main import main
from seqkit.inference.evaluation import ScoringOptions, score_files

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("model", ["lstm", "ngram"])
def test_rows_are_the_lines_and_add_up_to_the_text(model: str, language_runs: Path, capsys: Captured) -> None:
    test = language_runs / "test.txt"
    total = score_files([language_runs / model], [str(test)], ScoringOptions()).figures
    capsys.readouterr()
    assert main(["score", str(language_runs / model), str(test)]) == 0
    rows = [row.split("\t") for row in capsys.readouterr().out.splitlines()]
    assert [row[3] for row in rows] == test.read_text(encoding="utf-8").splitlines()
    assert -sum(float(row[0]) for row in rows) == pytest.approx(total.nll, rel=1e-5)
    assert sum(int(row[1]) for row in rows) == total.tokens
    for log_prob, tokens, perplexity, _ in rows:
        assert float(perplexity) == pytest.approx(math.exp(-float(log_prob) / int(tokens)), rel=1e-4)


def test_a_blank_line_keeps_its_row_and_text_is_shown_escaped(
    language_runs: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "odd.txt").write_text("the cat\n\na \x1b[2J dog\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["score", str(language_runs / "lines"), str(tmp_path / "odd.txt")]) == 0
    rows = [row.split("\t") for row in capsys.readouterr().out.splitlines()]
    assert [row[3] for row in rows][:2] == ["the cat", ""]
    assert int(rows[1][1]) == 1


def test_mistakes_are_two_lines(language_runs: Path, capsys: Captured) -> None:
    capsys.readouterr()
    assert main(["score", str(language_runs / "lstm"), str(language_runs / "none.txt")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 2
