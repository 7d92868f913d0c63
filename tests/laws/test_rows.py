"""Law 2: rows are independent: permuting them permutes the outputs, and `select` commutes with `advance`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.settings import Model
from seqkit.state import State, rows_of, select
from tests.support.models import TRANSLATIONS, AnyModel, close, every_decodable, logits, make, sources, tokens

Select = Callable[[State, Tensor], State]


@every_decodable
def test_permuted_sentences_give_permuted_outputs(settings: Model) -> None:
    model, source, ids = make(settings), sources(5, 2, 4), tokens(3, 5)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        moved = logits(model, Padded(source.ids[order], source.mask[order]), ids[order])
        close(moved, logits(model, source, ids)[order])


def check_select(model: AnyModel, choose: Select) -> None:
    """Hypotheses change places, are doubled and dropped in the middle of their sentences."""
    source, ids = sources(5, 2), tokens(6, 5)
    rows = torch.tensor([2, 0, 0, 5, 4, 3])
    memory, state = model.start(source)
    _, state = model.advance(ids[:, :3], memory, select(state, torch.arange(2).repeat_interleave(3)))
    out, _ = model.advance(ids[rows, 3:], memory, choose(state, rows))
    close(out, logits(model, source, ids)[rows, 3:])


@every_decodable
def test_select_commutes_with_advance(settings: Model) -> None:
    with torch.no_grad():
        check_select(make(settings), select)


@every_decodable
def test_the_law_notices_a_state_that_stays_behind(settings: Model) -> None:
    with torch.no_grad(), pytest.raises(AssertionError):
        check_select(make(settings), lambda state, rows: state)


@every_decodable
def test_a_sentence_that_leaves_takes_its_hypotheses_with_it(settings: Model) -> None:
    model, source, ids = make(settings), sources(4, 5, 2), tokens(6, 5)
    kept, rows = torch.tensor([0, 2]), torch.tensor([0, 1, 4, 5])
    with torch.no_grad():
        memory, state = model.start(source)
        _, state = model.advance(ids[:, :2], memory, select(state, torch.arange(3).repeat_interleave(2)))
        out, _ = model.advance(ids[rows, 2:], select(memory, kept), select(state, rows))
        close(out, logits(model, source, ids)[rows, 2:])


@every_decodable
def test_hypotheses_of_a_sentence_share_its_memory(settings: Model) -> None:
    """K rows a sentence against one row of memory are the same as each row against its own copy of the source."""
    model, source, ids = make(settings), sources(5, 2), tokens(6, 4)
    rows = torch.arange(2).repeat_interleave(3)
    with torch.no_grad():
        close(logits(model, source, ids), logits(model, Padded(source.ids[rows], source.mask[rows]), ids))


@every_decodable
def test_memory_has_a_row_a_sentence_and_state_a_row_a_hypothesis(settings: Model) -> None:
    model, source = make(settings), sources(5, 2)
    with torch.no_grad():
        memory, state = model.start(source)
        _, state = model.advance(tokens(6, 2), memory, select(state, torch.arange(2).repeat_interleave(3)))
    assert rows_of(memory) == (2 if settings in TRANSLATIONS.values() else None)
    assert rows_of(state) == 6
