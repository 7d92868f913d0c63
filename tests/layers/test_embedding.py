"""One matrix may serve both ends of a model."""

from __future__ import annotations

import pytest
import torch

from seqkit.layers.embedding import Embedding, OutputLayer


def test_embeddings_enter_at_unit_size_and_leave_at_unit_length() -> None:
    torch.manual_seed(0)
    module = Embedding(vocabulary=500, width=64)
    with torch.no_grad():
        vectors = module(torch.arange(500))
    torch.testing.assert_close(vectors.std(), torch.tensor(1.0), rtol=0.02, atol=0)
    torch.testing.assert_close(module.weight.norm(dim=1).mean(), torch.tensor(1.0), rtol=0.02, atol=0)
    assert torch.equal(vectors, module.weight * 8)


def test_a_shared_matrix_gets_both_gradients() -> None:
    torch.manual_seed(0)
    embedding = Embedding(vocabulary=5, width=4)
    output = OutputLayer(vocabulary=5, width=4, shared=embedding.weight)
    assert output.weight is embedding.weight
    vectors = embedding(torch.tensor([[3]]))
    output(vectors.detach()).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.any(dim=1).all()  # every token was scored
    (gradient,) = torch.autograd.grad(output(vectors).sum(), embedding.weight)
    as_vector = gradient[3] - vectors.detach()[0, 0]
    torch.testing.assert_close(as_vector, embedding.weight.detach().sum(0) * 2)


def test_scores_are_products_with_each_row() -> None:
    torch.manual_seed(0)
    output = OutputLayer(vocabulary=5, width=4)
    with torch.no_grad():
        output.bias[2] = 1.5
        hidden = torch.randn(2, 3, 4)
        scores = output(hidden)
    torch.testing.assert_close(scores[1, 2, 2], hidden[1, 2] @ output.weight[2] + 1.5)


def test_a_dropped_token_is_dropped_at_all_its_places_and_the_others_are_scaled_up() -> None:
    torch.manual_seed(0)
    module = Embedding(vocabulary=50, width=8, dropout=0.5)
    ids = torch.randint(0, 50, (20, 30))
    out = module(ids) / module.eval()(ids)
    scales = out[..., 0]
    torch.testing.assert_close(out, scales[..., None].expand_as(out))
    by_token = [scales[ids == token] for token in range(50)]
    for places in by_token:
        torch.testing.assert_close(places, places[:1].expand_as(places))
    kept = torch.stack([places[0] for places in by_token])
    assert 10 < int((kept == 0).sum()) < 40
    torch.testing.assert_close(kept[kept != 0], torch.full_like(kept[kept != 0], 2.0))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_share_of_the_vocabulary_is_dropped_anew_at_each_call(rate: float) -> None:
    torch.manual_seed(0)
    module = Embedding(vocabulary=20000, width=1, dropout=rate)
    ids = torch.arange(20000)[None]
    first, second = module(ids), module(ids)
    assert float((first == 0).float().mean()) == pytest.approx(rate, abs=0.01)
    assert not torch.equal(first == 0, second == 0)


def test_dropped_tokens_get_no_gradient_and_the_rest_the_scaled_one() -> None:
    torch.manual_seed(0)
    module = Embedding(vocabulary=40, width=4, dropout=0.5)
    vectors = module(torch.arange(40)[None])
    (gradient,) = torch.autograd.grad(vectors.sum(), module.weight)
    dropped = vectors[0].eq(0).all(1)
    assert dropped.any()
    assert not dropped.all()
    torch.testing.assert_close(gradient, torch.where(dropped, 0.0, 2.0 * module.scale)[:, None].expand_as(gradient))


def test_only_training_drops_tokens_and_a_rate_of_zero_draws_nothing() -> None:
    torch.manual_seed(0)
    ids, module = torch.arange(40)[None], Embedding(vocabulary=40, width=4, dropout=0.5)
    before = torch.get_rng_state()
    assert torch.equal(module.eval()(ids)[0], module.weight * module.scale)
    module.dropout = 0.0
    assert torch.equal(module.train()(ids)[0], module.weight * module.scale)
    assert torch.equal(torch.get_rng_state(), before)


def test_word_dropout_drops_whole_vectors_each_place_on_its_own() -> None:
    torch.manual_seed(0)
    embedding = Embedding(vocabulary=5, width=8, word_dropout=0.25).train()
    ids = torch.full((40, 50), 3)
    whole = embedding.eval()(ids)
    dropped = embedding.train()(ids)
    gone = (dropped == 0).all(-1)
    assert ((dropped == 0).any(-1) == gone).all()
    torch.testing.assert_close(dropped[~gone], whole[~gone] / 0.75)
    assert float(gone.double().mean()) == pytest.approx(0.25, abs=0.04)
    assert 0 < gone.sum(1).min() < gone.sum(1).max()  # not the same places in every row
    assert torch.equal(embedding.eval()(ids), whole)
