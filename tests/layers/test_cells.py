"""The update equations are those of torch's kernels, so either can stand for the other."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from seqkit.layers import cells

close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def weights(kernel: nn.RNNBase) -> dict[str, Tensor]:
    names = {"w": "weight_ih_l0", "u": "weight_hh_l0", "b_w": "bias_ih_l0", "b_u": "bias_hh_l0"}
    return {short: kernel.get_parameter(name) for short, name in names.items()}


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 6, 4, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)


def test_rnn_is_torch_s_kernel() -> None:
    x, (h, _) = inputs()
    kernel = nn.RNN(4, 5, batch_first=True).double()
    expected, _ = kernel(x, h[None])
    for step in range(x.shape[1]):
        h = cells.rnn(x[:, step], h, **weights(kernel))
        close(h, expected[:, step])


def test_gru_is_torch_s_kernel() -> None:
    x, (h, _) = inputs()
    kernel = nn.GRU(4, 5, batch_first=True).double()
    expected, _ = kernel(x, h[None])
    for step in range(x.shape[1]):
        h = cells.gru(x[:, step], h, **weights(kernel))
        close(h, expected[:, step])


def test_lstm_is_torch_s_kernel() -> None:
    x, (h, c) = inputs()
    kernel = nn.LSTM(4, 5, batch_first=True).double()
    expected, (_, last_cell) = kernel(x, (h[None], c[None]))
    for step in range(x.shape[1]):
        h, c = cells.lstm(x[:, step], (h, c), **weights(kernel))
        close(h, expected[:, step])
    close(c, last_cell[0])


def test_a_gru_with_its_update_gate_shut_keeps_its_state() -> None:
    x, (h, _) = inputs()
    large = torch.zeros(15, dtype=torch.float64)
    large[5:10] = 100.0  # the gates are stacked as r, z, n
    new = cells.gru(x[:, 0], h, w=torch.randn(15, 4).double(), u=torch.randn(15, 5).double(), b_w=large, b_u=large)
    close(new, h)


def test_an_lstm_that_forgets_nothing_and_reads_nothing_keeps_its_cell() -> None:
    x, (h, c) = inputs()
    bias = torch.zeros(20, dtype=torch.float64)
    bias[:5], bias[5:10] = -100.0, 100.0  # the gates are stacked as i, f, g, o
    _, cell = cells.lstm(
        x[:, 0], (h, c), w=torch.randn(20, 4).double(), u=torch.randn(20, 5).double(), b_w=bias, b_u=bias
    )
    close(cell, c)
