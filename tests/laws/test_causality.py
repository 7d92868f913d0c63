"""Law 5: what stands behind a token cannot be seen from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.layers.attention import MultiHeadAttention
from seqkit.models.language_model import LanguageModel
from seqkit.models.ngram import NGramModel
from seqkit.settings import Model
from tests.support.models import (
    AnyModel,
    every_decodable,
    every_model,
    every_transformer,
    logits,
    make,
    sources,
    tokens,
)

LENGTH = 5


def check(model: AnyModel) -> None:
    source, ids = sources(4, 2), tokens(2, LENGTH)
    before = logits(model, source, ids)
    for place in range(1, LENGTH):
        other = ids.clone()
        other[:, place] = 3 + (ids[:, place] - 2) % 6  # another token
        after = logits(model, source, other)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not bool(torch.isclose(after[:, place], before[:, place], rtol=0, atol=1e-9).all(1).any())


@every_decodable
def test_changing_a_token_leaves_what_comes_before_it_alone(settings: Model) -> None:
    with torch.no_grad():
        check(make(settings))


def check_gradient(model: AnyModel) -> None:
    """The gradient of a prediction with respect to the vector of a later token is exactly zero."""
    vectors: list[Tensor] = []

    def kept(module: torch.nn.Module, arguments: object, out: Tensor) -> None:
        vectors.append(out)

    memory, state = model.start(sources(4, 2))
    assert not isinstance(model, NGramModel)
    reader = model.reader if isinstance(model, LanguageModel) else model.decoder
    hook = reader.embedding.register_forward_hook(kept)
    out = model.advance(tokens(2, LENGTH), memory, state).logits
    hook.remove()
    for place in range(LENGTH):
        (gradient,) = torch.autograd.grad(out[:, place].tanh().sum(), vectors[0], retain_graph=True)
        assert not gradient[:, place + 1 :].any()
        assert gradient[:, place].any()


@every_model
def test_no_gradient_comes_from_the_future(settings: Model) -> None:
    check_gradient(make(settings))


@every_transformer
def test_the_law_notices_a_causal_mask_that_was_removed(settings: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = MultiHeadAttention._attend

    def unmasked(
        self: MultiHeadAttention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **_: bool
    ) -> Tensor:
        return attend(self, query, key, value, mask)

    monkeypatch.setattr(MultiHeadAttention, "_attend", unmasked)
    model = make(settings)
    with torch.no_grad(), pytest.raises(AssertionError):
        check(model)
    with pytest.raises(AssertionError):
        check_gradient(model)
