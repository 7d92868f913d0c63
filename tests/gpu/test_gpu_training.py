"""Training on a GPU is the training that it is on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqkit.config import dump
from seqkit.errors import Interrupted
from seqkit.inference.translator import Translator
from seqkit.layers.recurrent import RecurrentStack
from seqkit.runs.session import train
from seqkit.settings import Adam, Model, Muon, Optimizer, RecurrentLanguageModel
from seqkit.storage import checkpoint
from seqkit.storage.weights import optimizer_tensors, restore_optimizer
from seqkit.training.callbacks import StopRequest
from seqkit.training.objective import Objective
from seqkit.training.optimizers import build_optimizers
from seqkit.training.precision import Precision
from tests.support.gpu import SMALL, dev_of, recipe_of, words
from tests.support.models import MODELS, batch_for, every_model, make

GPU = torch.device("cuda", 0)


def one_step(settings: Model, device: torch.device, optimizer: Optimizer, **arithmetic: Any) -> tuple[Tensor, Tensor]:
    """The gradients of one batch, and the weights after a step along them, each in one vector."""
    model = make(settings, dtype=torch.float32).to(device).train()
    objective = Objective(model, smoothing=0.1, **arithmetic)
    tally, _ = objective(batch_for(model).to(device))
    (tally.objective / 11).backward()
    named = dict(model.named_parameters())
    matrices = {name for name, each in named.items() if each.ndim == 2 and "embedding" not in name}
    gradients = torch.cat(
        [torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten() for each in named.values()]
    )
    for each in build_optimizers(optimizer, named, rate=0.01, matrices=matrices):
        each.step()
    return gradients.cpu(), torch.cat([each.detach().cpu().flatten() for each in named.values()])


@every_model
def test_a_step_in_float32_is_that_of_the_cpu(settings: Model) -> None:
    expected, found = (one_step(settings, device, Adam()) for device in (torch.device("cpu"), GPU))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
    # Adam's first step is the gradient's sign: where that is in doubt it may be the other.
    clear = expected[0].abs() > 1e-4
    torch.testing.assert_close(found[1][clear], expected[1][clear], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["transformer-pre", "lstm-additive-deep"])
def test_a_step_of_muon_is_that_of_the_cpu(name: str) -> None:
    expected, found = (one_step(MODELS[name], device, Muon()) for device in (torch.device("cpu"), GPU))
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0.01)  # its products are in bfloat16


@every_model
def test_gradients_in_bfloat16_are_near_those_in_float32(settings: Model) -> None:
    exact, _ = one_step(settings, GPU, Adam())
    narrow, _ = one_step(settings, GPU, Adam(), precision=Precision(torch.bfloat16, torch.bfloat16))
    assert bool(narrow.isfinite().all())
    # So few numbers are not averaged over anything: one that crosses zero in a ReLU weighs much.
    assert float((narrow - exact).norm()) < 0.25 * float(exact.norm())


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_layers_stay_in_float32_under_autocast(cell: Any) -> None:
    stack = RecurrentStack(kind=cell, inputs=6, width=8, layers=2, dropout=0.0).to(GPU)
    x = torch.randn(3, 5, 6, device=GPU)
    expected, state = stack(x)
    with torch.autocast("cuda", torch.bfloat16):
        found, after = stack(x)
    assert found.dtype == after.hidden.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(after.hidden, state.hidden)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("weight_drop", [0.0, 0.5])
def test_a_recurrent_layer_gives_gradients_in_both_modes(cell: Any, weight_drop: float) -> None:
    settings = RecurrentLanguageModel(cell=cell, width=7, embedding=6, layers=2, weight_drop=weight_drop)
    for mode in (True, False):
        model = make(settings, dtype=torch.float32).to(GPU).train(mode)
        tally, _ = Objective(model, smoothing=0.0)(batch_for(model).to(GPU))
        tally.objective.backward()
        assert all(bool(each.grad.isfinite().all()) for each in model.parameters() if each.grad is not None)


def test_the_loss_in_bfloat16_falls_as_in_float32(tmp_path: Path) -> None:
    curves = []
    for precision in ("float32", "tf32", "bfloat16"):
        output = "bfloat16" if precision == "bfloat16" else "float32"
        recipe = recipe_of(tmp_path / precision, precision=precision, output_precision=output, steps=200)
        train(recipe, out=tmp_path / precision / "run", device="cuda")
        curves.append([each.loss for each in dev_of(tmp_path / precision / "run")])
    exact, rounded, narrow = curves
    assert len(exact) == 10
    assert exact[-1] < 0.5 * exact[0]
    assert rounded == pytest.approx(exact, rel=0.1, abs=0.05)
    assert narrow == pytest.approx(exact, rel=0.1, abs=0.05)


class After(StopRequest):
    """A signal that is seen after so many looks, one a step."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "reason":
            self.looks += 1
            return "SIGTERM" if self.looks >= 30 else None
        return super().__getattribute__(name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_ends_where_the_whole_one_does(optimizer: str, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, optimizer={"kind": optimizer}, average=0.9)
    whole = train(recipe, out=tmp_path / "whole", device="cuda")
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "parts", device="cuda", request=After())
    stopped, _ = checkpoint.newest(tmp_path / "parts" / "checkpoints")
    assert stopped is not None
    assert 0 < stopped.step < 60
    parts = train(recipe, out=tmp_path / "parts", device="cuda")
    assert (parts.step, parts.tokens, parts.epoch, parts.position) == (
        whole.step,
        whole.tokens,
        whole.epoch,
        whole.position,
    )
    assert [each.step for each in dev_of(tmp_path / "parts")] == [20, 40, 60]
    expected = [each.loss for each in dev_of(tmp_path / "whole")]
    assert [each.loss for each in dev_of(tmp_path / "parts")] == pytest.approx(expected, rel=1e-3)


def test_a_run_goes_on_and_translates_on_the_cpu(tmp_path: Path) -> None:
    train(recipe_of(tmp_path, steps=300), out=tmp_path / "run", device="cuda")
    train(recipe_of(tmp_path, steps=310), out=tmp_path / "run", device="cpu")
    lines = words(50, seed=3)
    texts = [
        [each.text for each in Translator.load(tmp_path / "run", device=device).translate(lines)]
        for device in ("cpu", "cuda")
    ]
    assert texts[0] == texts[1]


def test_an_optimizers_state_comes_back_to_the_gpu() -> None:
    model = make(MODELS["transformer-pre"], dtype=torch.float32).to(GPU)
    named = dict(model.named_parameters())
    names = {each: name for name, each in named.items()}
    old, new = (build_optimizers(Adam(), named, rate=0.01, matrices=set())[0] for _ in range(2))
    for each in named.values():
        each.grad = torch.ones_like(each)
    old.step()
    tensors, facts = optimizer_tensors(old, names)
    restore_optimizer(new, names, tensors={name: each.cpu() for name, each in tensors.items()}, facts=facts)
    restored, _ = optimizer_tensors(new, names)
    assert {each.device for each in restored.values()} == {GPU}
    assert [name for name in tensors if not torch.equal(tensors[name], restored[name])] == []
    new.step()


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_layers_give_the_same_gradients() -> None:
    expected, found = (
        one_step(MODELS["transformer-pre"], GPU, Adam(), compiled=compiled)[0] for compiled in (False, True)
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    model = {"kind": "transformer", **SMALL, "dropout": 0.0}  # of which each process has its own
    recipe = recipe_of(tmp_path, model=model, precision="float32", output_precision="float32")
    train(recipe, out=tmp_path / "one", device="cuda")
    (tmp_path / "recipe.toml").write_text(dump(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "seqkit"]
    options = ["--out", str(tmp_path / "two"), "--device", "cuda", "--quiet"]
    subprocess.run([*command, "train", str(tmp_path / "recipe.toml"), *options], check=True, timeout=300)
    expected = [each.loss for each in dev_of(tmp_path / "one")]
    assert [each.loss for each in dev_of(tmp_path / "two")] == pytest.approx(expected, rel=1e-3)
