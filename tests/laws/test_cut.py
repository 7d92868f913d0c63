"""Law 1: reading a sequence in pieces, cut anywhere, is reading it whole: training is prefill is stepping."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.layers import attention
from seqkit.settings import Model
from seqkit.state import Decodable, Memory, State, Step, map_state, select
from tests.support.models import (
    AnyModel,
    close,
    every_decodable,
    every_model,
    every_transformer,
    logits,
    make,
    sources,
    tokens,
)

LENGTH = 6


def check(model: Decodable) -> None:
    source, ids = sources(5, 3, 1), tokens(3, LENGTH)
    whole = logits(model, source, ids)
    for cut in range(1, LENGTH):
        close(logits(model, source, ids, cut), whole)
    close(logits(model, source, ids, *range(1, LENGTH)), whole)


@every_decodable
def test_a_cut_anywhere_changes_nothing(settings: Model) -> None:
    with torch.no_grad():
        check(make(settings))


@every_model
def test_a_cut_changes_no_gradient(settings: Model) -> None:
    model, source, ids = make(settings), sources(4, 2), tokens(2, LENGTH)
    weights = torch.randn(2, LENGTH, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = torch.autograd.grad((logits(model, source, ids).tanh() * weights).sum(), list(model.parameters()))
    pieces = torch.autograd.grad((logits(model, source, ids, 1, 4).tanh() * weights).sum(), list(model.parameters()))
    close(pieces, whole)


@every_decodable
def test_a_cloned_state_can_be_advanced_again(settings: Model) -> None:
    model, source, ids = make(settings), sources(4, 2), tokens(2, LENGTH)
    other = tokens(2, 3, seed=9)
    with torch.no_grad():
        memory, state = model.start(source)
        _, state = model.advance(ids[:, :3], memory, state)
        kept = map_state(Tensor.clone, state)
        model.advance(other, memory, state)
        close(model.advance(ids[:, 3:], memory, kept).logits, logits(model, source, ids)[:, 3:])


@every_decodable
def test_twenty_steps_with_hypotheses_changing_places(settings: Model) -> None:
    """As a beam does: at each step every sentence keeps three of its hypotheses, some of them twice."""
    model, source, beam = make(settings), sources(5, 1), 3
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        memory, state = model.start(source)
        state = select(state, torch.arange(2).repeat_interleave(beam))
        ids = tokens(2 * beam, 1)
        for _ in range(20):
            out, state = model.advance(ids[:, -1:], memory, state)
            parents = torch.randint(0, beam, (2, beam), generator=random)
            rows = (parents + torch.tensor([[0], [beam]])).flatten()
            state, ids, out = select(state, rows), ids[rows], out[rows]
            expected = logits(model, source, ids)[:, -1:]
            close(out, expected)
            ids = torch.cat([ids, torch.randint(3, 9, (2 * beam, 1), generator=random)], dim=1)


class Forgetful:
    """Steps as if each were the first."""

    def __init__(self, model: AnyModel) -> None:
        self.model = model
        self.first: State = None

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        memory, self.first = self.model.start(source)
        return memory, self.first

    def advance(self, ids: Tensor, memory: Memory, state: State) -> Step:
        out, _ = self.model.advance(ids, memory, self.first)
        return Step(out, self.first)


@every_decodable
def test_the_law_notices_a_forgotten_state(settings: Model) -> None:
    with torch.no_grad(), pytest.raises(AssertionError):
        check(Forgetful(make(settings)))


@every_transformer
def test_the_law_notices_a_causal_mask_aligned_at_the_top_left(
    settings: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        attention, "causal_mask", lambda new, total, device: torch.ones(new, total, dtype=torch.bool).tril()
    )
    with torch.no_grad(), pytest.raises(AssertionError):
        check(make(settings))
