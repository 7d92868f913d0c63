"""A model arranged for decoding predicts what it predicted before: whatever is read at a time, moved or dropped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.engine.fused_transformer import POOL_GROWTH, FusedTransformer, Past, fused
from seqkit.errors import ModelError
from seqkit.layers.attention import MultiHeadAttention
from seqkit.models.autoregressive import Autoregressive
from seqkit.models.ensemble import Ensemble
from seqkit.search.beam import beam
from seqkit.settings import Model, Search
from seqkit.state import Decodable, select
from tests.support.models import (
    SOURCE,
    TARGET,
    TRANSFORMERS,
    AnyModel,
    close,
    every_decodable,
    every_transformer,
    logits,
    make,
    sources,
    tokens,
)

LONG = 2 * POOL_GROWTH + 3  # tokens for which a cache must grow twice


@every_transformer
@pytest.mark.parametrize(
    "cuts", [range(1, LONG), (), (1,), (POOL_GROWTH - 1, POOL_GROWTH + 1), (POOL_GROWTH,), (2, 3)], ids=str
)
def test_predictions_are_those_of_the_model(settings: Model, cuts: range | tuple[int, ...]) -> None:
    model, source, ids = make(settings), sources(5, 2, 4), tokens(6, LONG)
    with torch.no_grad():
        close(logits(fused(model), source, ids, *cuts), logits(model, source, ids))


@every_transformer
def test_rows_are_moved_doubled_and_dropped(settings: Model) -> None:
    model, source, ids = make(settings), sources(5, 2, 3), tokens(6, LONG)
    stepper = fused(model)
    rows, kept = torch.tensor([1, 1, 5, 4]), torch.tensor([0, 2])
    memory, state = stepper.start(source)
    state = select(state, torch.arange(3).repeat_interleave(2))
    _, state = stepper.advance(ids[:, :POOL_GROWTH], memory, state)
    found = []
    memory, state = select(memory, kept), select(state, rows)
    for token in torch.split(ids[rows, POOL_GROWTH:], 1, dim=1):
        out, state = stepper.advance(token, memory, state)
        found.append(out)
    with torch.no_grad():
        close(torch.cat(found, dim=1), logits(model, source, ids)[rows, POOL_GROWTH:])


@every_transformer
def test_the_law_notices_a_cache_that_was_not_moved(settings: Model) -> None:
    stepper, source, ids = fused(make(settings)), sources(5, 2), tokens(4, 4)
    memory, state = stepper.start(source)
    _, state = stepper.advance(ids[:, :3], memory, state)
    moved, _ = stepper.advance(ids[[2, 3, 0, 1], 3:], memory, state)
    with torch.no_grad(), pytest.raises(AssertionError):
        close(moved, logits(make(settings), source, ids)[[2, 3, 0, 1], 3:])


@every_decodable
def test_only_transformers_are_arranged(settings: Model) -> None:
    model = make(settings)
    assert isinstance(fused(model), FusedTransformer) == (settings in TRANSFORMERS.values())
    assert settings in TRANSFORMERS.values() or fused(model) is model


class OtherAttention(MultiHeadAttention):
    """Attention with scores of half the size, which only its own code knows."""

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, is_causal: bool = False
    ) -> Tensor:
        return super()._attend(query / 2, key, value, mask, is_causal=is_causal)


@every_transformer
def test_a_transformer_with_an_unknown_part_decodes_by_its_own_layers(settings: Model) -> None:
    model = make(settings)
    assert isinstance(model, Autoregressive)
    stack = model.self_attention
    assert stack is not None
    layer = next(iter(stack.layers))
    layer.attention.__class__ = OtherAttention
    assert fused(model) is model
    with pytest.raises(TypeError, match="OtherAttention"):
        FusedTransformer(model, stack)


def test_members_of_an_ensemble_are_arranged_and_keep_their_weights() -> None:
    members: list[AnyModel] = [make(settings, seed=seed) for seed, settings in enumerate(some())]
    ensemble, source, ids = Ensemble(members, weights=[1, 2, 4]), sources(5, 2), tokens(4, 5)
    stepping = fused(ensemble)
    assert isinstance(stepping, Ensemble)
    assert [isinstance(member, FusedTransformer) for member in stepping.members] == [True, False, True]
    with torch.no_grad():
        close(logits(stepping, source, ids, 1, 2), logits(ensemble, source, ids))


def some() -> list[Model]:
    from tests.support.models import MODELS

    return [MODELS[name] for name in ("transformer-post", "gru-bilinear", "transformer-swiglu")]


@every_transformer
@pytest.mark.parametrize("width", [1, 3])
def test_searches_find_the_same(settings: Model, width: int) -> None:
    model, search = make(settings), Search(beam=width, nbest=width, patience=0, maximum_length=LONG, length_reward=0.6)
    source = sources(5, 2, 4)
    plain, fast = beam(model, source, search), beam(fused(model), source, search)
    assert [[each.ids for each in found] for found in fast] == [[each.ids for each in found] for found in plain]


@every_transformer
def test_the_weights_are_those_of_the_time(settings: Model) -> None:
    """Why a model in training is arranged anew for each validation: what was arranged may stay behind."""
    model, source, ids = make(settings), sources(5, 2), tokens(2, 3)
    stepper: Decodable = fused(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
        changed: Tensor = logits(model, source, ids)
        close(logits(fused(model), source, ids), changed)
        with pytest.raises(AssertionError):
            close(logits(stepper, source, ids), changed)


@every_transformer
@pytest.mark.parametrize("rows", [1, 100], ids=["few-rows", "many-rows"])
def test_narrow_products_are_nearly_the_same(settings: Model, rows: int) -> None:
    model, source, ids = make(settings, dtype=torch.float32), sources(*[4] * rows), tokens(rows, 6)
    with torch.no_grad():
        exact = logits(fused(model), source, ids, 1, 2, 3)
        narrow = logits(fused(model, products=torch.bfloat16), source, ids, 1, 2, 3)
    assert narrow.dtype == torch.float32
    assert not torch.equal(narrow, exact)
    assert float((narrow - exact).norm() / exact.norm()) < 0.02


def test_large_matrices_in_float32_are_the_same_map() -> None:
    """Those that are laid out anew: only in float32, and only from a certain size on."""
    from seqkit.kernels.packed import PREPACKED_ENTRIES, prepacked_linear

    generator = torch.Generator().manual_seed(1)
    weight, bias = (
        torch.randn(PREPACKED_ENTRIES // 64, 64, generator=generator),
        torch.randn(PREPACKED_ENTRIES // 64, generator=generator),
    )
    map_ = prepacked_linear(weight, bias)
    for shape in ((1, 64), (5, 1, 64), (3, 2, 64), (320, 64)):
        x = torch.randn(shape, generator=generator)
        torch.testing.assert_close(map_(x), (x.double() @ weight.double().T + bias.double()).float())


def test_a_translation_model_still_needs_a_source() -> None:
    from tests.support.models import MODELS

    with pytest.raises(ModelError, match="needs a source"):
        fused(make(MODELS["transformer-pre"])).start(None)


def test_nothing_is_copied_while_hypotheses_of_a_sentence_change_places() -> None:
    from tests.support.models import MODELS

    stepper, source = fused(make(MODELS["transformer-pre"])), sources(4, 3, size=SOURCE)
    memory, state = stepper.start(source)
    _, state = stepper.advance(tokens(2, POOL_GROWTH - 1, size=TARGET), memory, state)
    _, begun = stepper.advance(tokens(4, 1), memory, select(state, torch.tensor([0, 0, 1, 1])))
    assert isinstance(begun, Past)
    assert begun.length == POOL_GROWTH
    moved = select(begun, torch.tensor([1, 1, 3, 2]))
    assert isinstance(moved, Past)
    assert moved.pool is begun.pool


PLACES = [
    [1, 0, 3, 2, 5, 4],  # hypotheses change places
    [1, 1, 3, 3, 4, 4],  # some are doubled
    [4, 5, 0, 1, 2, 3],  # sentences change places
    [2, 3, 3, 4, 4, 4],  # sentences leave and others are widened, unevenly
    [0, 4, 2, 1, 3, 5],  # all are mixed
    [5],
    [0, 2, 4],  # narrower
    [0, 0, 1, 2, 3, 3, 4, 5, 5],  # wider
    [0, 0, 0, 2, 2, 2, 4, 4, 4, 4, 4, 4],  # sentence 2 is there twice
]


@every_transformer
@pytest.mark.parametrize("first", PLACES, ids=str)
def test_rows_go_anywhere_at_any_time(settings: Model, first: list[int]) -> None:
    """Each row attends to its own past, wherever it and those beside it came from: two moves, the second at random."""
    model, ids = make(settings), tokens(6, POOL_GROWTH + 2)
    generator = torch.Generator().manual_seed(len(first))
    stepper, source = fused(model), sources(*[4] * 6)
    memory, state = stepper.start(source)
    origin = torch.arange(6)
    _, state = stepper.advance(ids[:, :2], memory, select(state, origin))
    at = 2
    for rows in (torch.tensor(first), torch.randint(len(first), (4,), generator=generator)):
        state, origin = select(state, rows), origin[rows]
        memory = select(memory, rows)
        out, state = stepper.advance(ids[origin, at : at + 1], memory, state)
        out, state = stepper.advance(ids[origin, at + 1 : at + 3], memory, state)
        at += 3
    with torch.no_grad():
        close(out, logits(model, source, ids[:, :at])[origin, -2:])
