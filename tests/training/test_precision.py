"""In which arithmetic a recipe is trained on which device, and that a narrow one learns what the wide one does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.config import build
from seqkit.demo import reverse
from seqkit.errors import ConfigError
from seqkit.models.build import Sizes
from seqkit.models.build import build as build_model
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.system.device import device_of
from seqkit.training.objective import build_objective
from seqkit.training.precision import precision_of, set_float32

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SMALL = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "feed_forward": 64, "dropout": 0.0}


def recipe_of(*, model: dict[str, Any] | None = None, files: str = "none", **settings: Any) -> Recipe:
    tree = {
        "name": "small",
        "data": {"train": [files], "dev": [files], "source": "word", "target": "drow"},
        "text": {"kind": "words", "split": "spaces"},
        "model": {"kind": "transformer", **SMALL} if model is None else model,
        "train": {"steps": 40, "batch_tokens": 512, "processes": 1, **settings},
    }
    return build(tree, where="the test")


@pytest.fixture(params=[True, False], ids=["new", "old"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """A machine with two GPUs that multiply bfloat16 or do not; arithmetic is put back."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: request.param)
    yield request.param
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True  # as torch has it


def test_bfloat16_is_chosen_where_the_gpu_has_it(gpu: bool) -> None:
    narrow = torch.bfloat16 if gpu else torch.float32
    assert precision_of(recipe_of(), GPU)[:2] == (narrow, torch.bfloat16 if gpu else None)
    assert precision_of(recipe_of(precision="bfloat16"), GPU)[0] == torch.bfloat16
    for exact in ("float32", "tf32"):
        assert precision_of(recipe_of(precision=exact, output_precision="float32"), GPU)[:2] == (torch.float32, None)


@pytest.mark.parametrize(
    ("precision", "products", "recurrent"),
    [("float32", "highest", False), ("tf32", "high", True), ("bfloat16", "highest", True)],
)
def test_a_gpu_rounds_float32_only_where_that_is_wanted(
    gpu: bool, precision: str, products: str, recurrent: bool
) -> None:
    assert device_of("cuda") == GPU
    assert not torch.backends.cudnn.allow_tf32  # of whoever trains nothing
    set_float32(recipe_of(precision=precision), GPU)
    assert torch.get_float32_matmul_precision() == products
    assert torch.backends.cudnn.allow_tf32 == recurrent


def test_a_cpu_never_rounds_float32() -> None:
    before = torch.backends.cudnn.allow_tf32
    set_float32(recipe_of(precision="tf32"), CPU)
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 == before
    assert precision_of(recipe_of(precision="tf32"), CPU)[0] == torch.float32


@pytest.mark.usefixtures("gpu")
def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("auto") == device_of("cuda") == GPU
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == device_of("cuda") == torch.device("cuda", 1)
    assert device_of("cuda:0") == GPU
    with pytest.raises(ConfigError, match="no device cuda:2"):
        device_of("cuda:2")


@pytest.mark.parametrize("wish", ["auto", True, False])
def test_only_transformers_are_compiled_and_only_if_that_is_wanted(
    wish: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    models = [None, {"kind": "recurrent", "width": 8, "embedding": 8}]
    found = []
    for model in models:
        recipe = recipe_of(model=model, compile=wish)
        found.append(build_objective(recipe, build_model(recipe.model, Sizes(9, 9, joint=True)), CPU).compiled)
    assert found == [wish is True, False]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "recurrent"])
def test_bfloat16_learns_as_fast_as_float32(kind: str, tmp_path: Path) -> None:
    rows = "".join(f"{source}\t{target}\n" for source, target in reverse(300, seed=1))
    (tmp_path / "train.tsv").write_text(rows, encoding="utf-8")
    model = {"kind": "recurrent", "width": 32, "embedding": 32, "dropout": 0.0} if kind == "recurrent" else None
    curves = []
    for precision in ("float32", "bfloat16"):
        recipe = recipe_of(
            model=model,
            files=str(tmp_path / "train.tsv"),
            precision=precision,
            output_precision=precision,
            steps=80,
            learning_rate=1e-2,
            schedule={"kind": "linear", "warmup": 5},
            validate_every=20,
            validate_lines=1,
        )
        train(recipe, out=tmp_path / precision, device="cpu")
        log = [json.loads(line) for line in (tmp_path / precision / "log.jsonl").read_text("utf-8").splitlines()]
        curves.append([row["loss"] for row in log if row["event"] == "valid"])
    exact, narrow = curves
    assert len(exact) == 4
    assert exact[-1] < 0.9 * exact[0]
    assert narrow != exact
    assert narrow == pytest.approx(exact, rel=0.02)
