"""`seqkit evaluate`: the numbers are sacrebleu's, and none travels alone."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from seqkit.cli.main import main
from seqkit.demo import reverse
from seqkit.files import sha256
from seqkit.inference.translator import Translator
from seqkit.metrics import Score
from seqkit.metrics.sacrebleu_scores import by_sacrebleu, chrf
from seqkit.metrics.table import METRICS, TranslationMetric
from seqkit.settings import Search

Captured = pytest.CaptureFixture[str]

PAIRS = [*reverse(30, seed=5), ("", "a blank source"), ("b l a n k", ""), ("a b\u2028c", "[/foo] \x1b[2J")]


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that may be written to."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for side, name in enumerate(("test.word", "test.drow")):
        (tmp_path / name).write_text("".join(f"{pair[side]}\n" for pair in PAIRS), encoding="utf-8")
    (tmp_path / "test.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(words: list[str], capture: Captured) -> dict[str, Any]:
    capture.readouterr()
    assert main(["evaluate", *words, "--json", "-q"]) == 0
    captured = capture.readouterr()
    assert captured.err == ""
    printed: dict[str, Any] = json.loads(captured.out)
    return printed


def test_scores_are_those_of_sacrebleu_on_what_was_written(run: Path, files: Path, capfd: Captured) -> None:
    printed = results([str(run), "test.{word,drow}", "--metric", "bleu,chrf,ter", "--beam", "2"], capfd)
    folder = run / "evaluations" / "test"
    assert json.loads((folder / "results.json").read_bytes()) == printed
    text = (folder / "hypotheses.txt").read_bytes().decode()
    hypotheses = text.removesuffix("\n").split("\n")
    assert len(hypotheses) == len(PAIRS)
    assert hypotheses[30] == ""
    references = [[pair[1] for pair in PAIRS]]
    for score, metric in zip(printed["scores"], (sacrebleu.BLEU(), sacrebleu.CHRF(), sacrebleu.TER()), strict=True):
        assert score["value"] == pytest.approx(metric.corpus_score(hypotheses, references).score, abs=1e-9)
        assert score["signature"] == str(metric.get_signature())
        assert score["low"] <= score["value"] <= score["high"]
    assert printed["exact_match"] == sum(a == b for a, b in zip(hypotheses, references[0], strict=True)) / len(PAIRS)
    assert printed["provenance"]["search"]["beam"] == 2
    translations = Translator.load(run).translate([pair[0] for pair in PAIRS], search=Search(beam=2))
    assert hypotheses == [one.text for one in translations]


def test_a_result_says_where_it_comes_from(run: Path, files: Path, capfd: Captured) -> None:
    of_run = results([str(run), "test.tsv", "search.length_reward=0.5"], capfd)["provenance"]
    weights = run / "checkpoints" / "step-00000060" / "model.safetensors"
    assert of_run["checkpoint"] == sha256(weights)
    assert (of_run["step"], of_run["lines"], of_run["device"], of_run["dtype"]) == (60, len(PAIRS), "cpu", "float32")
    assert of_run["search"]["length_reward"] == 0.5
    assert of_run["files"] == {"test.tsv": sha256("test.tsv")}
    for package in ("torch", "seqkit"):
        assert of_run[package] == importlib.metadata.version(package)
    of_folder = results([str(run / "model"), "test.tsv", "search.length_reward=0.5"], capfd)["provenance"]
    assert of_folder["checkpoint"] == sha256(run / "model" / "model.safetensors")
    assert of_folder["step"] == of_run["step"]
    assert not (run / "model" / "evaluations").exists()


def test_the_table_shows_scores_and_worst_lines_as_plain_text(run: Path, files: Path, capfd: Captured) -> None:
    assert main(["evaluate", str(run), "test.word", "test.drow", "--lines", "33"]) == 0
    out, err = capfd.readouterr()
    rows = out.split("\n")
    assert rows[0].split() == ["metric", "score", "95", "%", "interval", "signature"]
    assert [row.split()[0] for row in rows[1:3]] == ["BLEU", "chrF2"]
    assert "nrefs:1|case:mixed|" in rows[1]
    assert "of 33 lines" in out
    assert "lines/s" in out
    assert "[/foo] \\x1b[2J" in out
    assert "a b\\u2028c" in out
    assert not set(out) & set("\x1b\u2028")
    assert sum(row.startswith("        source") for row in rows) == 33
    assert "evaluations/test" in err
    assert main(["evaluate", str(run), "test.tsv", "--lines", "0"]) == 0
    assert "worst" not in capfd.readouterr().out


def test_files_are_scored_without_a_model(files: Path, capfd: Captured) -> None:
    Path("h").write_text("the cat sat\n\nthe dog\n", encoding="utf-8")
    Path("r1").write_text("the cat sat\n\na dog\n", encoding="utf-8")
    Path("r2").write_text("a cat sat\n\nthe dog\n", encoding="utf-8")
    for references in (["--ref", "r1", "r2"], ["--ref", "r1", "--ref", "r2"]):
        printed = results(["--hyp", "h", *references], capfd)
        assert printed["exact_match"] == 1.0
        expected = sacrebleu.BLEU().corpus_score(
            ["the cat sat", "", "the dog"], [["the cat sat", "", "a dog"], ["a cat sat", "", "the dog"]]
        )
        assert printed["scores"][0]["value"] == expected.score
        assert "nrefs:2" in printed["scores"][0]["signature"]
        assert set(printed["provenance"]["files"]) == {"h", "r1", "r2"}
    assert main(["evaluate", "--hyp", "h", "--ref", "r1"]) == 0
    shown = capfd.readouterr().out
    assert "lines/s" not in shown
    assert "source" not in shown
    Path("h").write_text("[link=x] \x1b[2J\n", encoding="utf-8")
    assert main(["evaluate", "--hyp", "h", "--ref", "h"]) == 0
    shown = capfd.readouterr().out
    assert shown.count("[link=x] \\x1b[2J\n") == 2
    assert "\x1b" not in shown


def test_a_score_below_what_is_asked_ends_with_its_own_code(run: Path, files: Path, capfd: Captured) -> None:
    assert main(["evaluate", str(run), "test.tsv", "--metric", "chrf", "--min-bleu", "99"]) == 7
    out, err = capfd.readouterr()
    assert "BLEU" in out
    assert "is below 99" in err
    Path("h").write_text("the cat sat on the mat\n", encoding="utf-8")
    assert main(["evaluate", "--hyp", "h", "--ref", "h", "--min-bleu", "99.99"]) == 0


def test_a_new_metric_is_listed_and_computed(files: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = TranslationMetric(
        name="chrf-w5", title="chrF-w5", higher_is_better=True, compute=by_sacrebleu(partial(chrf, word_order=5))
    )
    monkeypatch.setitem(METRICS, "chrf-w5", metric)
    printed = results(["--hyp", "test.drow", "--ref", "test.drow", "--metric", "chrf-w5"], capfd)
    assert [score["name"] for score in printed["scores"]] == ["chrF2+++++"]
    assert main(["evaluate", "--hyp", "test.drow", "--ref", "test.drow", "--metric", "xyz"]) == 2
    assert ", ter, chrf-w5\n" in capfd.readouterr().err


def test_a_metric_that_needs_sources_is_refused_without(
    trained: Path, files: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sequence[str] | None] = []

    def first_source(
        hypotheses: Sequence[str], references: Sequence[Sequence[str]], sources: Sequence[str] | None, *, resamples: int
    ) -> Score:
        seen.append(sources)
        return Score("first", 1.0, 1.0, 1.0, "")

    metric = TranslationMetric(
        name="first", title="first source", higher_is_better=True, needs_sources=True, compute=first_source
    )
    monkeypatch.setitem(METRICS, "first", metric)
    assert main(["evaluate", "--hyp", "missing", "--ref", "missing", "--metric", "bleu,first"]) == 2
    assert "first source needs the sources" in capfd.readouterr().err
    results([str(trained / "model"), "test.tsv", "--metric", "first"], capfd)
    assert seen == [[source for source, _ in PAIRS]]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere", "test.tsv"], 4, "nowhere is not a model folder"),
        (["RUN"], 2, "a model and a test set are needed"),
        (["RUN", "test.tvs"], 3, "did you mean test.tsv?"),
        (["RUN", "test.tsv", "--metric", "bluu"], 2, "did you mean 'bleu'?"),
        (["RUN", "test.tsv", "search.bean=2"], 2, "did you mean search.beam?"),
        (["RUN", "test.tsv", "train.steps=2"], 2, "train.steps=2 has no effect"),
        (["RUN", "--hyp", "test.drow", "--ref", "test.drow"], 2, "--hyp and --ref"),
        (["--hyp", "test.drow"], 2, "--ref"),
        (["--hyp", "test.drow", "--ref", "short"], 3, "test.drow has 33 lines, short 2"),
        (["--hyp", "pieces", "--ref", "short"], 3, "SentencePiece pieces"),
        (["--hyp", "missing", "--ref", "short"], 3, "missing does not exist"),
    ],
)
def test_mistakes_are_reported_with_their_exit_code(
    words: list[str], code: int, message: str, trained: Path, files: Path, capfd: Captured
) -> None:
    Path("short").write_text("a\nb\n", encoding="utf-8")
    Path("pieces").write_text("\u2581a\n\u2581b\n", encoding="utf-8")
    assert main(["evaluate", *(word.replace("RUN", str(trained)) for word in words)]) == code
    captured = capfd.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert "translating" not in captured.err  # mistakes are reported before the work
    assert captured.out == ""


def test_help_of_both_commands_imports_nothing_heavy() -> None:
    code = (
        "import sys; from seqkit.cli.main import main; [main([name, '--help']) for name in ('evaluate', 'translate')]; "
        "assert not {'torch', 'numpy', 'sacrebleu', 'rich', 'datasets', 'prompt_toolkit'} & set(sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert len(process.stdout.splitlines()) <= 80
