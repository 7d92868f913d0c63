"""Law 10 for models: a checkpoint gives back the model, bit for bit, and what is tied stays tied."""

from __future__ import annotations

from pathlib import Path

import torch

from seqkit.parallel.parameters import named_tensors
from seqkit.settings import Model
from seqkit.storage import checkpoint
from seqkit.storage.weights import load_strictly
from tests.support.models import every_model, logits, make, sources, tokens


@every_model
def test_a_checkpoint_gives_back_the_model(settings: Model, tmp_path: Path) -> None:
    model, other = make(settings, dtype=torch.float32), make(settings, seed=1, dtype=torch.float32)
    source, ids = sources(5, 2), tokens(2, 5)
    checkpoint.save(tmp_path, 7, tensors={"model": named_tensors(model)}, training={}, codec="none")
    load_strictly(other, checkpoint.read(checkpoint.step_path(tmp_path, 7)).tensors("model"))
    with torch.no_grad():
        assert torch.equal(logits(other, source, ids), logits(model, source, ids))


@every_model
def test_no_weight_is_saved_twice_or_left_out(settings: Model) -> None:
    model = make(settings)
    assert set(named_tensors(model)) == {name for name, _ in model.named_parameters()}
