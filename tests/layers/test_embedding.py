"""One matrix may serve both ends of a model."""

from __future__ import annotations

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
