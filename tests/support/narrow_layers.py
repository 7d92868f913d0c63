"""What holds for every recurrent kernel in a narrow arithmetic: it is torch's layer, gradients and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

__all__ = ["Case", "NarrowKernel", "narrow_case", "sizes"]

Layer = nn.GRU | nn.RNN
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
sizes = st.integers(1, 5)


class NarrowKernel(Protocol):
    """A kernel: x (N, T, I) and a state (N, D) -> outputs (N, T, D)."""

    def __call__(self, x: Tensor, before: Tensor, weights: list[Tensor], *, dtype: torch.dtype) -> Tensor: ...


@dataclass
class Case:
    """A kernel, torch's layer of the same kind, and random inputs, all in float64."""

    kernel: NarrowKernel
    layer: Layer
    x: Tensor
    before: Tensor

    @property
    def read(self) -> list[Tensor]:
        """All that has a gradient."""
        return [self.x, self.before, *self.layer.parameters()]

    def run(self, x: Tensor, before: Tensor, *, dtype: torch.dtype) -> Tensor:
        """The kernel with the layer's weights."""
        return self.kernel(x, before, [weight.to(x.dtype) for weight in self.layer.all_weights[0]], dtype=dtype)

    def check_it_is_torch_s(self) -> None:
        """Outputs and all gradients, where nothing is rounded."""
        expected, end = self.layer(self.x, self.before[None])
        out = self.run(self.x, self.before, dtype=self.x.dtype)
        close(out, expected)
        close(out[:, -1], end[0])
        weights = torch.randn_like(out)
        wanted, found = (torch.autograd.grad((y.sin() * weights).sum(), self.read) for y in (expected, out))
        close(found, wanted)

    def check_large_inputs(self) -> None:
        """Gates that are wide open or shut are finite."""
        with torch.no_grad():
            self.x.mul_(1e4)
        self.check_it_is_torch_s()

    def check_the_backward_pass_can_be_repeated(self) -> None:
        """What it reads stays as it was."""
        loss = self.run(self.x, self.before, dtype=self.x.dtype).square().sum()
        once = torch.autograd.grad(loss, self.read, retain_graph=True)
        assert all(map(torch.equal, once, torch.autograd.grad(loss, self.read)))

    def check_a_cut(self, cut: int) -> None:
        """A sequence may be cut and gone on with."""
        run = partial(self.run, dtype=self.x.dtype)
        whole, start = run(self.x, self.before), run(self.x[:, :cut], self.before)
        halves = torch.cat([start, run(self.x[:, cut:], start[:, -1])], dim=1)
        close(halves, whole)
        close(*(torch.autograd.grad(out.square().sum(), self.read) for out in (halves, whole)))

    def check_narrow_products(self) -> None:
        """They change little, but something; all that comes out is in float32."""
        self.layer = self.layer.float()
        self.x, self.before = (part.float().detach().requires_grad_() for part in (self.x, self.before))
        results: list[Sequence[Tensor]] = []
        for dtype in (torch.float32, torch.bfloat16):
            out = self.run(self.x, self.before, dtype=dtype)
            results.append([out.detach(), *torch.autograd.grad(out.square().sum(), self.read)])
        for wide, narrow in zip(*results, strict=True):
            assert narrow.dtype == torch.float32
            assert 0 < float((narrow - wide).norm() / wide.norm()) < 0.02

    def check_a_row_alone(self) -> None:
        """A row depends neither on its neighbours nor on what comes after it."""
        whole = self.run(self.x.float(), self.before.float(), dtype=torch.bfloat16)
        alone = self.run(self.x[4:5, :7].float(), self.before[4:5].float(), dtype=torch.bfloat16)
        torch.testing.assert_close(alone, whole[4:5, :7], rtol=0, atol=0.02)


def narrow_case(kernel: NarrowKernel, kind: type[Layer]) -> Callable[[int, int, int, int], Case]:
    """Cases of one kernel, by rows, steps, input size and width."""

    def case(rows: int, steps: int, inputs: int, width: int) -> Case:
        torch.manual_seed(0)
        layer = kind(inputs, width, batch_first=True).double()
        x = torch.randn(rows, steps, inputs, dtype=torch.float64, requires_grad=True)
        return Case(kernel, layer, x, torch.randn(rows, width, dtype=torch.float64, requires_grad=True))

    return case
