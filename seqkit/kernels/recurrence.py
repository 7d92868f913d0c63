"""One recurrent layer over a sequence, by the fastest kernel for the device and the arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqkit.kernels.arithmetic import current_arithmetic
from seqkit.kernels.gru import narrow_gru
from seqkit.kernels.rnn import narrow_rnn
from seqkit.state import map_state

__all__ = ["FusedLayer", "LayerState", "recur"]

FusedLayer = nn.RNN | nn.GRU | nn.LSTM
LayerState = Tensor | tuple[Tensor, Tensor]  # as in torch: (1, N, D); for an LSTM hidden state and cell


def recur(
    layer: FusedLayer, x: Tensor, before: LayerState | None, *, drop: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, LayerState]:
    """`layer(x, before)`, its recurrent matrix passed through `drop` first, if there is one: x (N, T, I) -> (N, T, D).

    On a CPU all kinds follow `products_in`. In bfloat16 oneDNN's LSTM trains 1.5 times as fast up to a width of some
    300, and no slower beyond; `narrow_gru` is 1.5 to 1.7 times as fast as torch's GRU at widths of 200 to 256, but not
    over a single step, and `narrow_rnn` gains as much. torch's own GRU and RNN would round their states at each step,
    and gain less.

    On a GPU autocast is switched off: under it cuDNN calculates in float16, whatever its dtype, and small gradients
    vanish.
    """
    if not x.is_cuda:
        return _recur(layer, x, before, drop)
    dtype = next(layer.parameters()).dtype
    with torch.autocast("cuda", enabled=False):
        return _recur(layer, x.to(dtype), map_state(lambda part: part.to(dtype), before), drop)


def _recur(
    layer: FusedLayer, x: Tensor, before: LayerState | None, drop: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, LayerState]:
    dtype = _product_dtype(layer, x)
    # cuDNN gives gradients only to a layer in training mode, though here the mode changes nothing else.
    needs_training_mode = x.is_cuda and torch.is_grad_enabled() and not layer.training
    if drop is None and dtype == x.dtype and not needs_training_mode:
        result: tuple[Tensor, LayerState] = layer(x, before)
        return result
    w, u, b_w, b_u = layer.all_weights[0]
    weights = [w, u if drop is None else drop(u), b_w, b_u]
    zeros = x.new_zeros(1, len(x), layer.hidden_size)
    first_state = before if isinstance(before, Tensor) else zeros
    if not isinstance(layer, nn.LSTM) and dtype != x.dtype:
        kernel = narrow_gru if isinstance(layer, nn.GRU) else narrow_rnn
        out = kernel(x, first_state[0], weights, dtype=dtype)
        return out, out[:, -1].unsqueeze(0)
    weights = [weight.to(dtype) for weight in weights]
    if x.device.type != "cpu":
        weights = _in_one_piece(weights)
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    options = (True, 1, 0.0, torch.is_grad_enabled(), False, True)
    if isinstance(layer, nn.LSTM):
        parts = [part.to(dtype) for part in ((zeros, zeros) if before is None else before)]
        out, hidden, cell = torch.lstm(x.to(dtype), parts, weights, *options)
        return out.to(x.dtype), (hidden.to(x.dtype), cell.to(x.dtype))
    kernel_call = torch.gru if isinstance(layer, nn.GRU) else torch.rnn_tanh
    return kernel_call(x, first_state, weights, *options)


def _product_dtype(layer: FusedLayer, x: Tensor) -> torch.dtype:
    """The arithmetic of the layer's products with x (N, T, I)."""
    products = current_arithmetic().products
    if products is None or x.device.type != "cpu" or x.dtype != torch.float32:
        return x.dtype
    return products if isinstance(layer, nn.LSTM) or x.shape[1] > 1 else x.dtype


def _in_one_piece(weights: list[Tensor]) -> list[Tensor]:
    """The same weights in one piece of memory, in cuDNN's order; otherwise cuDNN copies them, and warns."""
    pieces = torch.split(torch.cat([weight.flatten() for weight in weights]), [weight.numel() for weight in weights])
    return [piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True)]
