"""`seqkit label`: a line of labels for every line, and scores for labelled files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from seqkit import config
from seqkit.cli.label_command import table
from seqkit.cli.main import main
from seqkit.data.labelled_text import LabelledText, read_labelled
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.inference.labeller import Labeller
from seqkit.metrics.label_counts import LabelScores
from seqkit.metrics.label_scores import label_scores
from seqkit.runs.session import train
from tests.support.pipes import output_of, standard_input

Captured = pytest.CaptureFixture[str]

LINES = ["Florence left Paris .", "", "May\tpaid  9 euros .", " \u00a0", "zzz", "Kent met Paris in London on 5 May ."]
KINDS = ("DATE", "LOC", "MONEY", "PER")
PLAIN = LabelScores(sentences=1, tokens=4, correct=3, scheme="plain", types={})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small labeller that has begun to learn; `test.tsv` lies beside it."""
    folder = tmp_path_factory.mktemp("labels")
    whole = labels_demo.sentences(340, seed=1)
    for name, begin, end in (("train", 0, 300), ("dev", 300, 320), ("test", 320, 340)):
        text = LabelledText(whole.tokens[begin:end], whole.labels[begin:end])
        (folder / f"{name}.tsv").write_bytes(text.dump())
    recipe = config.build(
        {
            "data": {"kind": "labelled", "train": [str(folder / "train.tsv")], "dev": [str(folder / "dev.tsv")]},
            "text": {"kind": "words", "split": "spaces", "joint": False, "minimum_count": 2},
            "model": {"kind": "recurrent_labeller", "width": 32, "embedding": 16, "dropout": 0.0},
            "train": {
                "steps": 40,
                "batch_tokens": 512,
                "learning_rate": 1e-2,
                "schedule": {"kind": "linear", "warmup": 5},
                "validate_every": 40,
                "processes": 1,
            },
        },
        where="the test",
    )
    train(recipe, out=folder / "run", device="cpu")
    return folder / "run"


def through(words: Sequence[str], given: bytes) -> bytes:
    """What the command writes for these bytes, and that it ends well."""
    return output_of(["label", *words], given)


def test_the_run_says_how_it_went(run: Path) -> None:
    records = map(json.loads, (run / "log.jsonl").read_text("utf-8").splitlines())
    [valid] = [record for record in records if record["event"] == "valid"]
    assert 50 < valid["accuracy"] <= 100
    assert 0 < valid["f1"] <= 100
    assert valid["signature"].startswith("scheme:IOB2|sentences:20|")
    manifest = json.loads((run / "model" / "manifest.json").read_text("utf-8"))
    assert "f1" in str(manifest)


def test_every_line_has_a_line_and_every_token_a_label(run: Path, tmp_path: Path) -> None:
    given = "".join(f"{line}\n" for line in LINES).encode()
    found = through([str(run), "-q"], given).decode().split("\n")
    assert found.pop() == ""
    assert [len(line.split()) for line in found] == [len(line.split()) for line in LINES]
    assert [line.split() for line in found] == list(Labeller.load(run).label(LINES))
    assert len(set(found)) > 3
    assert set(" ".join(found).split()) <= {"O"} | {f"{letter}-{kind}" for letter in "BI" for kind in KINDS}
    (tmp_path / "in").write_bytes(given)
    through([str(run), "-q", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")], b"")
    assert (tmp_path / "out").read_text("utf-8").split("\n")[:-1] == found


def test_conll_is_what_labelled_files_hold(run: Path, tmp_path: Path) -> None:
    given = "".join(f"{line}\n" for line in LINES).encode()
    path = tmp_path / "labelled.conll"
    path.write_bytes(through([str(run), "-q", "--format", "conll"], given))
    text = read_labelled([path])
    filled = [line.split() for line in LINES if line.strip()]
    assert text.tokens == filled
    assert text.labels == list(Labeller.load(run).label(filled))
    assert path.read_bytes().endswith(b"\n\n")


def test_a_file_is_scored(run: Path, capsys: Captured) -> None:
    test = run.parent / "test.tsv"
    text = read_labelled([test])
    scores = label_scores(list(Labeller.load(run).label(text.tokens)), text.labels)
    assert scores.spans is not None
    assert main(["-q", "label", str(run), "--test", str(test)]) == 0
    out, err = capsys.readouterr()
    rows = {cells[0]: cells[1:] for line in out.splitlines() if (cells := line.split())}
    for kind, spans in {**scores.types, "all": scores.spans}.items():
        figures = (spans.precision, spans.recall, spans.f1)
        assert rows[kind] == [*(f"{figure:.2f}" for figure in figures), str(spans.expected)]
    assert rows["accuracy"] == f"{scores.accuracy:.2f} % of {scores.tokens} tokens".split()
    assert rows["signature"] == [scores.signature]
    assert err == ""

    assert main(["label", str(run), "--json", "--test", str(test), str(test)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["accuracy"] == pytest.approx(scores.accuracy)
    assert results["all"]["f1"] == pytest.approx(scores.f1)
    counts = (scores.spans.correct, scores.spans.found, scores.spans.expected)
    assert tuple(results["all"][name] for name in ("correct", "found", "expected")) == tuple(2 * n for n in counts)
    assert len(set(counts)) == 3
    assert set(results["types"]) == set(scores.types)
    assert results["sentences"] == 2 * len(text)
    assert list(results["provenance"]["files"]) == [str(test)]


def test_labels_without_spans_have_accuracy_alone() -> None:
    assert [line.split()[0] for line in table(PLAIN)] == ["accuracy", "signature"]
    assert "75.00 % of 4 tokens" in table(PLAIN)[0]


def test_bad_bytes_are_told_once_and_counted(run: Path, capfd: Captured) -> None:
    found = through([str(run)], b"a \xff b\n\xff\nc\n")
    assert [len(line.split()) for line in found.decode().splitlines()] == [3, 1, 1]
    err = capfd.readouterr().err
    assert err.count("is not UTF-8") == 1
    assert "line 1 is not UTF-8" in err
    assert re.search(r"^3 lines, .* lines/s, 2 invalid UTF-8$", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nowhere"], 4, "nowhere is not a model folder"),
        (["OTHER"], 4, "holds no labelling model\nhint: seqkit translate "),
        (["RUN", "--json"], 2, "add --test FILE"),
        (["RUN", "--test", "a.tsv", "--format", "conll"], 2, "--test labels its own files"),
        (["RUN", "--test", "missing.tsv"], 3, "missing.tsv does not exist"),
        (["RUN", "-i", "missing.txt"], 3, "missing.txt does not exist"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(
    words: list[str], code: int, told: str, run: Path, trained: Path, capfd: Captured
) -> None:
    words = [{"RUN": str(run), "OTHER": str(trained)}.get(word, word) for word in words]
    with standard_input(b"a\n"):
        assert main(["label", *words]) == code
    captured = capfd.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_translate_names_the_command_that_uses_a_labeller(run: Path, capfd: Captured) -> None:
    with standard_input(b"a\n"):
        assert main(["translate", str(run)]) == 4
    assert f"seqkit label {run} uses it" in capfd.readouterr().err
