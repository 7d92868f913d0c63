"""Law 13: the loss in chunks is the loss of whole logits, with every gradient, for any chunk size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.batch import Padded
from seqkit.loss import cross_entropy
from seqkit.models.autoregressive import Autoregressive
from seqkit.settings import Model
from tests.support.models import AnyModel, close, every_model, make, sources, tokens

SMOOTHING = 0.1


def by_hand(model: AnyModel, source: Padded, ids: Tensor, targets: Padded) -> tuple[Tensor, Tensor]:
    """Objective and negative log-likelihood from whole logits."""
    memory, state = model.start(source)
    log_probs = model.advance(ids, memory, state).logits.log_softmax(2)[targets.mask]
    nll = F.nll_loss(log_probs, targets.ids[targets.mask], reduction="sum")
    return (1 - SMOOTHING) * nll - SMOOTHING * log_probs.mean(1).sum(), nll


@every_model
def test_chunks_change_neither_loss_nor_gradient(settings: Model) -> None:
    model, source, ids = make(settings), sources(5, 2, 4), tokens(3, 5)
    assert isinstance(model, Autoregressive)
    targets = Padded(ids.roll(-1, 1), torch.tensor([5, 2, 4])[:, None] > torch.arange(5))
    parameters = list(model.parameters())
    objective, nll = by_hand(model, source, ids, targets)
    gradients = torch.autograd.grad(objective, parameters)
    for chunk in (1, 3, 11, 100):
        memory, state = model.start(source)
        hidden = model.features(ids, memory, state).hidden
        tally = cross_entropy(hidden, model.output, targets, smoothing=SMOOTHING, chunk=chunk)
        close((tally.objective, tally.nll, tally.tokens), (objective, nll, targets.mask.sum()))
        close(torch.autograd.grad(tally.objective, parameters), gradients)
