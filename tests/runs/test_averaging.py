"""The mean of checkpoints: of equal weights it is these weights, and the steps it is made of can be chosen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seqkit.errors import ConfigError, ModelError
from seqkit.parallel.parameters import named_tensors
from seqkit.runs.averaging import average
from seqkit.runs.trained_model import load
from seqkit.storage import checkpoint


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A run with checkpoints of weights once, twice and six times those of a model, at steps 100, 200 and 300."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    for step, factor in ((100, 1), (200, 2), (300, 6)):
        scaled = {name: factor * tensor for name, tensor in weights_of(trained).items()}
        checkpoint.save(run / "checkpoints", step, tensors={"model": scaled}, training={}, codec="codec")
    return run


def weights_of(path: Path) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in named_tensors(load(path).model).items()}


@pytest.mark.parametrize(
    ("last", "steps", "made_of", "factor"),
    [(None, (), [100, 200, 300], 3.0), (2, (), [200, 300], 4.0), (None, (300, 100, 300), [100, 300], 3.5)],
    ids=["all", "last", "steps"],
)
def test_it_is_the_mean_of_the_steps_that_it_names(
    last: int | None, steps: tuple[int, ...], made_of: list[int], factor: float, run: Path, trained: Path
) -> None:
    assert average(run, run.parent / "mean", last=last, steps=steps) == made_of
    mean, once = weights_of(run.parent / "mean"), weights_of(trained)
    torch.testing.assert_close(mean, {name: factor * tensor for name, tensor in once.items()})
    facts = load(run.parent / "mean").facts
    assert (facts["step"], facts["mean_of"]) == (made_of[-1], made_of)


def test_the_mean_of_equal_weights_is_these_weights(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    weights = weights_of(trained)
    for step in (1000, 2000, 3000):
        checkpoint.save(tmp_path / "checkpoints", step, tensors={"model": weights}, training={}, codec="codec")
    average(tmp_path, tmp_path / "mean", last=3)
    mean = weights_of(tmp_path / "mean")
    assert all(torch.equal(mean[name], tensor) for name, tensor in weights.items())


def test_too_few_checkpoints_missing_ones_and_a_folder_in_the_way_are_refused(run: Path) -> None:
    for last, steps in ((4, ()), (None, (100,))):
        with pytest.raises(ConfigError, match="has kept 3 checkpoints"):
            average(run, run.parent / "mean", last=last, steps=steps)
    with pytest.raises(ModelError, match="no checkpoint of step 150"):
        average(run, run.parent / "mean", steps=(100, 150))
    with pytest.raises(ConfigError, match="exists"):
        average(run, run)
    with pytest.raises(ModelError, match="has no checkpoints"):
        average(run / "model", run.parent / "mean")
    assert not (run.parent / "mean").exists()
