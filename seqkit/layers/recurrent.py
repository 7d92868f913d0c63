"""Recurrent layers and stacks of them, with states whose rows come first.

torch's recurrent states have layers first; they are transposed here and nowhere else. No packed sequences are needed:
padding is on the right, so a left-to-right layer reads real tokens first, and a right-to-left layer reads a copy that
is reversed within each length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from seqkit.kernels.linear import joint_linear
from seqkit.kernels.recurrence import FusedLayer, LayerState, recur
from seqkit.kernels.scan import gated_scan
from seqkit.layers.dropout import Dropout, LockedDropout
from seqkit.layers.projection import Projection

__all__ = ["LAYERS", "BidirectionalStack", "MinGRU", "RecurrentStack", "StackState", "last_real", "reversing_index"]

Kind = Literal["rnn", "gru", "lstm", "mingru"]


class StackState(NamedTuple):
    """The state of a stack after the tokens read so far; only an LSTM has a `cell`."""

    hidden: Tensor  # (N, layers, D)
    cell: Tensor | None  # (N, layers, D)


class RecurrentLayer(Protocol):
    """One layer of a stack, with a state as torch has it: (1, N, D), for an LSTM two of them."""

    def read(
        self, x: Tensor, before: LayerState | None = None, *, drop: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read x (N, T, I) on from `before` (None: from zeros): outputs (N, T, D) and the new state.

        `drop`, if there is one, is applied to the recurrent matrix first.
        """
        ...


class FusedRecurrence(nn.RNNBase):
    """A layer that is computed by torch's kernels, or by the package's own where they are faster."""

    def read(
        self, x: Tensor, before: LayerState | None = None, *, drop: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read x (N, T, I) on from `before` (None: from zeros): outputs (N, T, D) and the new state."""
        return recur(cast(FusedLayer, self), x, before, drop=drop)


class RNN(FusedRecurrence, nn.RNN):
    """A plain recurrent layer (Elman, 1990)."""


class GRU(FusedRecurrence, nn.GRU):
    """A gated recurrent layer (Cho et al., 2014)."""


class LSTM(FusedRecurrence, nn.LSTM):
    """A layer of long short-term memory (Hochreiter and Schmidhuber, 1997)."""


def fused_layer(kernel: type[RNN | GRU | LSTM], inputs: int, width: int) -> RNN | GRU | LSTM:
    """A layer that starts with orthogonal recurrent matrices (Saxe et al., 2014) and, in an LSTM, with a forget bias of
    one (Jozefowicz et al., 2015)."""
    module = kernel(inputs, width, batch_first=True)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for gate in torch.split(weights["weight_hh_l0"], width):
            nn.init.orthogonal_(gate)
        for gate in torch.split(weights["weight_ih_l0"], width):
            nn.init.xavier_uniform_(gate)
        weights["bias_ih_l0"].zero_()
        weights["bias_hh_l0"].zero_()
        if kernel is LSTM:
            weights["bias_ih_l0"][width : 2 * width] = 1.0
    return module


class MinGRU(nn.Module):
    """A gated layer whose gates depend on its input alone (minGRU; Feng et al., 2024), so that the products
    of all steps are one. It has no recurrent matrix. See `cells.min_gru` for the equations.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gate = Projection(inputs, width)
        self.candidate = Projection(inputs, width)
        for projection in (self.gate, self.candidate):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def read(
        self, x: Tensor, before: LayerState | None = None, *, drop: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read x (N, T, I) on from `before` (None: from zeros): outputs (N, T, D) and the new state.

        Raises ValueError for `drop`: there is no recurrent matrix to drop entries of.
        """
        if drop is not None:
            raise ValueError("minGRU has no recurrent matrix to drop entries of")
        gates, candidates = joint_linear(x, (self.gate, self.candidate))
        state = before[0] if isinstance(before, Tensor) else x.new_zeros(len(x), self.gate.out_features)
        states = gated_scan(gates, candidates, state)
        return states, states[:, -1].unsqueeze(0)


LAYERS: dict[Kind, Callable[[int, int], nn.Module]] = {
    "rnn": partial(fused_layer, RNN),
    "gru": partial(fused_layer, GRU),
    "lstm": partial(fused_layer, LSTM),
    "mingru": MinGRU,
}


class RecurrentStack(nn.Module):
    """One or more recurrent layers from left to right, with dropout between them.

    With `locked` all steps of a call share one mask of that dropout. `weight_drop` is the share of the entries of each
    recurrent matrix that are dropped while training, one mask a call (Wan et al., 2013; Merity et al., 2018).
    """

    def __init__(
        self,
        *,
        kind: Kind,
        inputs: int,
        width: int,
        layers: int,
        dropout: float,
        locked: bool = False,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.width, self.depth = kind, width, layers
        sizes = [inputs, *[width] * (layers - 1)]
        self.layers = cast(Sequence[RecurrentLayer], nn.ModuleList(LAYERS[kind](size, width) for size in sizes))
        self.dropout = LockedDropout(dropout) if locked else Dropout(dropout)
        self.weight_drop = Dropout(weight_drop)

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """Read x (N, T, I) on from `state` (None: from zeros): outputs of the top layer (N, T, D) and the new state."""
        hiddens, cells = [], []
        drop = self.weight_drop if self.training and self.weight_drop.rate else None
        for index, layer in enumerate(self.layers):
            x = self.dropout(x) if index else x
            before = None
            if state is not None:
                hidden = state.hidden[:, index].unsqueeze(0).contiguous()  # (1, N, D)
                before = hidden if state.cell is None else (hidden, state.cell[:, index].unsqueeze(0).contiguous())
            x, after = layer.read(x, before, drop=drop)
            hidden, cell = after if isinstance(after, tuple) else (after, None)
            hiddens.append(hidden[0])
            if cell is not None:
                cells.append(cell[0])
        return x, StackState(torch.stack(hiddens, dim=1), torch.stack(cells, dim=1) if cells else None)


class BidirectionalStack(nn.Module):
    """Recurrent layers over whole sequences, each reading both ways where `bidirectional`: (B, S, I) -> (B, S, D).

    Each direction has half of the `width` D; without `bidirectional` the one direction has all of it.
    """

    def __init__(
        self, *, kind: Kind, inputs: int, width: int, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        forward_width = width // 2 if bidirectional else width
        sizes = [inputs, *[width] * (layers - 1)]
        forwards = nn.ModuleList(LAYERS[kind](size, forward_width) for size in sizes)
        backwards = nn.ModuleList(LAYERS[kind](size, width - forward_width) for size in sizes if bidirectional)
        self.forwards = cast(Sequence[RecurrentLayer], forwards)
        self.backwards = cast(Sequence[RecurrentLayer], backwards)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, I), mask (B, S) -> (B, S, D); the vectors at padded positions are meaningless."""
        order = reversing_index(mask) if self.backwards else None
        for index, layer in enumerate(self.forwards):
            x = self.dropout(x) if index else x
            outputs, _ = layer.read(x)
            if order is not None:
                reversed_outputs, _ = self.backwards[index].read(_gather(x, order))
                outputs = torch.cat([outputs, _gather(reversed_outputs, order)], dim=-1)
            x = outputs
        return x


def reversing_index(mask: Tensor) -> Tensor:
    """The index that reverses each row within its length and leaves padding in place; its own inverse: (B, S)."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    mirrored = mask.sum(1, keepdim=True) - 1 - positions
    return torch.where(mask, mirrored, positions)


def last_real(x: Tensor, mask: Tensor) -> Tensor:
    """The vector at each row's last real position: x (B, S, D), mask (B, S) -> (B, D)."""
    return _gather(x, mask.sum(1, keepdim=True) - 1)[:, 0]


def _gather(x: Tensor, positions: Tensor) -> Tensor:
    return x.gather(1, positions[:, :, None].expand(-1, -1, x.shape[2]))
