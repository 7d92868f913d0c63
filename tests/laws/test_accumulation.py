"""Law 8: many small batches give the gradient of the big one; sums and counts travel, one division makes the mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.loss import Tally
from seqkit.settings import Constant, Model
from seqkit.training.objective import Objective
from seqkit.training.trainer import Progress, Trainer
from tests.support.models import MODELS, TARGET, close, every_model, make
from tests.support.training import Group, NoStream, group_of

LENGTHS = (1, 10, 3, 7, 2, 5, 1, 4)
PARTITIONS = {
    "one": [range(8)],
    "pairs": [range(0, 2), range(2, 4), range(4, 6), range(6, 8)],
    "singles": [range(i, i + 1) for i in range(8)],
    "uneven": [range(5), range(5, 8)],
    "empty": [range(8), range(0)],
}
# What has nothing to do with the model is tried on one of each kind.
ONES = ("transformer-pre", "gru-additive-feeding", "plain-lstm", "mixed-lstm", "language-lstm-regularised")
one_of_each_kind = pytest.mark.parametrize("settings", [MODELS[name] for name in ONES], ids=ONES)


def sides() -> tuple[Encoded, Encoded]:
    """Eight pairs whose targets differ much in length."""
    random = np.random.default_rng(0)
    source = [random.integers(3, TARGET, size=length).tolist() for length in reversed(LENGTHS)]
    target = [random.integers(3, TARGET, size=length).tolist() for length in LENGTHS]
    return Encoded.from_lists(source), Encoded.from_lists(target)


def group(partition: Sequence[Sequence[int]]) -> Group:
    source, target = sides()
    return group_of(*(translation_batch(source, target, np.array(indices, dtype=np.int64)) for indices in partition))


def trainer(settings: Model, *, clip: float | None = None, smoothing: float = 0.1) -> Trainer:
    objective = Objective(make(settings), smoothing=smoothing).train()  # where penalties are added too
    return Trainer(
        objective=objective,
        optimizers=[_based(torch.optim.SGD(objective.parameters(), lr=0.1))],
        schedule=Constant(),
        stream=NoStream(),
        callbacks=[],
        seed=1,
        clip=clip,
        progress=Progress(),
    )


def _based(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for each in optimizer.param_groups:
        each["base"] = each["lr"]
    return optimizer


def stepped(settings: Model, partition: Sequence[Sequence[int]], *, clip: float | None = None) -> tuple[Tensor, ...]:
    """Loss sums, gradient norm, gradient and weights after one step over a group."""
    engine = trainer(settings, clip=clip)
    step = engine.step(group(partition))
    tally, vector = step.tally, engine.reader.vector
    assert vector is not None
    numbers = torch.stack([tally.objective.double(), tally.nll.double(), tally.tokens.double()])
    weights = torch.cat([parameter.detach().flatten() for parameter in engine.objective.parameters()])
    return (
        numbers,
        torch.tensor(step.norm, dtype=torch.float64),
        vector[: len(weights)].clone(),
        weights,
    )


@every_model
def test_accumulated_batches_are_the_big_batch(settings: Model) -> None:
    whole = stepped(settings, PARTITIONS["one"])
    for partition in PARTITIONS.values():
        close(stepped(settings, partition), whole)


@one_of_each_kind
def test_clipping_sees_the_accumulated_gradient(settings: Model) -> None:
    free = stepped(settings, PARTITIONS["one"])
    clipped = stepped(settings, PARTITIONS["singles"], clip=float(free[1]) / 2)
    close(clipped[1], free[1])
    close(clipped[2], free[2] / 2)


def mean_of_means(settings: Model, partition: Sequence[Sequence[int]]) -> Tensor:
    """What a careless trainer would do: the mean over batches of each one's mean."""
    objective = Objective(make(settings), smoothing=0.1).train()
    losses = []
    for batch in group(partition).batches:
        tally: Tally = objective(batch)[0]
        losses.append(tally.objective / tally.tokens)
    gradients = torch.autograd.grad(torch.stack(losses).mean(), list(objective.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])


@one_of_each_kind
def test_the_law_notices_a_mean_of_means(settings: Model) -> None:
    whole = stepped(settings, PARTITIONS["one"])[2]
    close(mean_of_means(settings, PARTITIONS["one"]), whole)
    with pytest.raises(AssertionError):
        close(mean_of_means(settings, PARTITIONS["uneven"]), whole)
