"""Layers that training skips, and layers that it computes twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import pad
from seqkit.kernels.arithmetic import products_in
from seqkit.layers.stack import LayerStack
from seqkit.models.build import Sizes, build_translation
from seqkit.models.decoders import TransformerDecoder
from seqkit.models.encoders import TransformerEncoder
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Transformer
from seqkit.state import tensors_of


def model(*, layer_drop: float = 0.0, dropout: float = 0.0, layers: int = 3) -> EncoderDecoder:
    torch.manual_seed(0)
    settings = Transformer(
        width=8,
        heads=2,
        feed_forward=12,
        encoder_layers=layers,
        decoder_layers=layers,
        dropout=dropout,
        layer_drop=layer_drop,
    )
    return build_translation(settings, Sizes(12, 12, joint=True))


def stacks(model: EncoderDecoder) -> tuple[LayerStack, LayerStack]:
    """The layers of encoder and decoder."""
    assert isinstance(model.encoder, TransformerEncoder)
    assert isinstance(model.decoder, TransformerDecoder)
    return model.encoder.layers, model.decoder.layers


def hidden(model: EncoderDecoder, *, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    source = pad([[5, 6, 7, 2], [8, 2]])
    memory, state = model.start(source)
    return model.features(torch.tensor([[1, 5, 6], [1, 7, 8]]), memory, state).hidden


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_layer_is_passed_over_as_often_as_was_asked_for(rate: float) -> None:
    torch.manual_seed(0)
    stack = LayerStack([], layer_drop=rate).train()
    skipped = sum(stack._skips() for _ in range(4000))
    assert skipped / 4000 == pytest.approx(rate, abs=0.03)  # four standard deviations


def test_a_layer_that_is_passed_over_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as a model that never had the layer, and what is known of its past is what it would have been."""
    deep, shallow = model(layers=3).train(), model(layers=3).train()
    for stack in stacks(shallow):
        del stack[1]
    calls = iter([False, True, False] * 2)
    monkeypatch.setattr(LayerStack, "_skips", lambda self: next(calls) if self.layer_drop else False)
    for stack in stacks(deep):
        stack.layer_drop = 0.5
    torch.testing.assert_close(hidden(deep), hidden(shallow))


def test_what_a_layer_passed_over_remembers_is_what_it_would_have_read() -> None:
    whole = model().train()
    source, tokens = pad([[5, 6, 2]]), torch.tensor([[1, 5, 6, 7]])
    memory, state = whole.start(source)
    read = whole.features(tokens, memory, state).state
    _, layers = stacks(whole)
    layers.layer_drop = 1.0
    passed = whole.features(tokens, memory, state).state
    assert [part.length for part in passed] == [part.length for part in read]
    torch.testing.assert_close(tensors_of(passed[0]), tensors_of(read[0]))  # the first layer reads the same either way


def test_only_training_passes_layers_over() -> None:
    dropping, plain = model(layer_drop=0.9).eval(), model().eval()
    assert torch.equal(hidden(dropping), hidden(plain))
    dropping.train()
    assert not torch.equal(hidden(dropping), hidden(plain))


class Counting:
    """Counts the entries of what is kept for the way back."""

    entries = 0

    def __call__(self, tensor: Tensor) -> Tensor:
        self.entries += tensor.numel()
        return tensor


@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_working_activations_out_again_changes_no_gradient_and_keeps_less(products: torch.dtype | None) -> None:
    grown, kept = [], []
    for recompute in (False, True):
        deep = model(dropout=0.3, layer_drop=0.2).train()
        for stack in stacks(deep):
            stack.recompute = recompute
        with torch.autograd.graph.saved_tensors_hooks(save := Counting(), lambda tensor: tensor), products_in(products):
            out = hidden(deep)
        torch.autograd.backward(out.square().sum())
        grown.append([None if p.grad is None else p.grad.clone() for p in deep.parameters()])
        kept.append(save.entries)
    assert kept[1] < kept[0] / 3
    for one, two in zip(*grown, strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)
