"""`seqkit model`: what a folder holds is told, and checkpoints become their mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqkit.cli.main import main
from seqkit.inference.translator import Translator
from seqkit.parallel.parameters import named_tensors
from seqkit.runs.trained_model import load
from seqkit.storage import checkpoint

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run with checkpoints at steps 100, 200 and 300 whose weights are once, twice and six times those of a model."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    folder = run / "checkpoints"
    weights = weights_of(trained)
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for step, factor in ((100, 1), (200, 2), (300, 6)):
        scaled = {name: factor * tensor for name, tensor in weights.items()}
        checkpoint.save(folder, step, tensors={"model": scaled}, training={}, codec="codec")
    checkpoint.mark_best(folder, 200, score=41.5, metric="bleu")
    return run


def weights_of(path: Path) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in named_tensors(load(path).model).items()}


@pytest.mark.parametrize(
    ("words", "steps", "factor"),
    [([], [100, 200, 300], 3.0), (["--last", "2"], [200, 300], 4.0), (["--steps", "300,100"], [100, 300], 3.5)],
    ids=["all", "last", "steps"],
)
def test_the_mean_of_checkpoints_is_a_model(
    words: list[str], steps: list[int], factor: float, run: Path, trained: Path, capsys: Captured
) -> None:
    out = run.parent / "mean"
    assert main(["model", "average", str(run), "-o", str(out), *words]) == 0
    assert f"the mean of steps {', '.join(map(str, steps))}" in capsys.readouterr().err
    mean, whole = weights_of(out), weights_of(trained)
    assert mean.keys() == whole.keys()
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, factor * whole[name])
        assert tensor.dtype == whole[name].dtype
    shutil.rmtree(run)  # it stands alone
    [found] = Translator.load(out, device="cpu").translate(["h a t"])
    assert found.source == "h a t"
    assert main(["model", "info", str(out)]) == 0
    assert f"mean of     {steps}" in capsys.readouterr().out


def damage(run: Path) -> None:
    path = run / "checkpoints" / "step-00000200" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "code", "told", "before"),
    [
        (["RUN", "-o", "there"], 2, "there exists", lambda run: (run.parent / "there").mkdir()),
        (["RUN", "-o", "mean", "--last", "4"], 2, "has kept 3 checkpoints", None),
        (["RUN", "-o", "mean", "--steps", "100"], 2, "has kept 3 checkpoints", None),
        (["RUN", "-o", "mean", "--steps", "100,100"], 2, "has kept 3 checkpoints", None),
        (["RUN", "-o", "mean", "--steps", "100,150"], 4, "no checkpoint of step 150", None),
        (["RUN", "-o", "mean", "--steps", "100;200"], 2, "--steps are numbers", None),
        (["RUN", "-o", "mean", "--steps", "100,200", "--last", "2"], 2, "exclude each other", None),
        (["RUN/model", "-o", "mean"], 4, "has no checkpoints", None),
        (["RUN", "-o", "mean"], 4, "step-00000200", damage),
    ],
)
def test_mistakes_have_their_codes_and_leave_nothing(
    words: list[str],
    code: int,
    told: str,
    before: Callable[[Path], None] | None,
    run: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run.parent)
    if before is not None:
        before(run)
    assert main(["model", "average", *(word.replace("RUN", str(run)) for word in words)]) == code
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) <= 2
    assert not (run.parent / "mean").exists()


def test_a_run_is_described_with_each_of_its_checkpoints(run: Path, capsys: Captured) -> None:
    damage(run)
    assert main(["model", "info", str(run)]) == 0
    out = capsys.readouterr().out
    assert "transformer, " in out
    assert "languages   word-drow" in out
    rows = [line for line in out.splitlines() if line.startswith("checkpoint")]
    assert [row.split()[2] for row in rows] == ["100", "200", "300"]
    assert "whole" in rows[0]
    assert "whole" in rows[2]
    assert "whole" not in rows[1]
    assert "best: bleu 41.5" in rows[1]


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()], ids=["torn", "gone"])
def test_a_folder_that_is_no_model_is_one_line(
    spoil: Callable[[Path], None], trained: Path, tmp_path: Path, capsys: Captured
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    spoil(tmp_path / "model" / "manifest.json")
    assert main(["model", "info", str(tmp_path / "model")]) == 4
    err = capsys.readouterr().err
    assert err.startswith("seqkit: error: ")
    assert len(err.splitlines()) <= 2


def test_a_published_model_is_described(trained: Path, capsys: Captured) -> None:
    assert main(["model", "info", str(trained / "model")]) == 0
    out = capsys.readouterr().out
    facts = json.loads((trained / "model" / "manifest.json").read_text())["facts"]
    assert f"step        {facts['step']}" in out
    assert "width=32" in out
