"""Recurrent stacks over torch's fused kernels, with states whose rows come first.

torch keeps recurrent states layer-first; they are transposed here and nowhere else. No packed sequences: padding is on
the right, so a left-to-right layer never sees it before real tokens, and a right-to-left layer runs over a copy that is
reversed within each length.
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
    """Where a stack stands in its sequences; `cell` is None but for an LSTM."""

    hidden: Tensor  # (N, layers, D)
    cell: Tensor | None  # (N, layers, D)


class RecurrentLayer(Protocol):
    """One layer of a stack, whose state is torch's: (1, N, D), and of an LSTM two of them."""

    def read(
        self, x: Tensor, before: LayerState | None = None, *, drop: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read x (N, T, I) on from `before` (None: from zeros): outputs (N, T, D) and the new state.

        The recurrent matrix passes through `drop` first, if there is one.
        """
        ...


class Fused(nn.RNNBase):
    """A layer by torch's kernels, or by the package's own where they are faster."""

    def read(
        self, x: Tensor, before: LayerState | None = None, *, drop: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, LayerState]:
        """Read x (N, T, I) on from `before` (None: from zeros): outputs (N, T, D) and the new state."""
        return recur(cast(FusedLayer, self), x, before, drop=drop)


class RNN(Fused, nn.RNN):
    """A plain recurrent layer (Elman, 1990)."""


class GRU(Fused, nn.GRU):
    """A gated recurrent layer (Cho et al., 2014)."""


class LSTM(Fused, nn.LSTM):
    """A layer of long short-term memory (Hochreiter and Schmidhuber, 1997)."""


def fused_layer(kernel: type[RNN | GRU | LSTM], inputs: int, width: int) -> RNN | GRU | LSTM:
    """A layer whose recurrent matrices are orthogonal, and an LSTM's forget gates open, at the start."""
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
    """A gated layer whose gates read its input alone (minGRU; Feng et al., 2024): training needs no loop over products.

    It has no recurrent matrix. See `cells.min_gru` for the equations.
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
    """One or more recurrent layers from left to right, dropout between them.

    `locked` keeps the mask of that dropout for all steps of a call. `weight_drop` is the share of the entries of each
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

    Of `width` D each direction gets half; without `bidirectional` the one direction gets all of it.
    """

    def __init__(
        self, *, kind: Kind, inputs: int, width: int, layers: int, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        part = width // 2 if bidirectional else width
        sizes = [inputs, *[width] * (layers - 1)]
        ahead = nn.ModuleList(LAYERS[kind](size, part) for size in sizes)
        back = nn.ModuleList(LAYERS[kind](size, width - part) for size in sizes if bidirectional)
        self.forwards, self.backwards = cast(Sequence[RecurrentLayer], ahead), cast(Sequence[RecurrentLayer], back)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, S, I), mask (B, S) -> (B, S, D); what stands at padded positions is meaningless."""
        order = reversing_index(mask) if self.backwards else None
        for index, layer in enumerate(self.forwards):
            x = self.dropout(x) if index else x
            ahead, _ = layer.read(x)
            if order is not None:
                back, _ = self.backwards[index].read(_take(x, order))
                ahead = torch.cat([ahead, _take(back, order)], dim=-1)
            x = ahead
        return x


def reversing_index(mask: Tensor) -> Tensor:
    """The index that reverses each row within its length and leaves padding in place; its own inverse: (B, S)."""
    places = torch.arange(mask.shape[1], device=mask.device)
    mirrored = mask.sum(1, keepdim=True) - 1 - places
    return torch.where(mask, mirrored, places)


def last_real(x: Tensor, mask: Tensor) -> Tensor:
    """What stands at each row's last real position: x (B, S, D), mask (B, S) -> (B, D)."""
    return _take(x, mask.sum(1, keepdim=True) - 1)[:, 0]


def _take(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))
