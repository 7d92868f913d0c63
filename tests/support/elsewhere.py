"""A second device in any machine: tensors that say they are elsewhere and refuse to meet those that are not.

The numbers behind them are on the CPU, so everything runs and gives real results: what fails here for want of a common
device would fail on a GPU. A GPU's own kernels, and the choices that torch makes among them, are not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from seqkit.layers.cells import gru, lstm, rnn

__all__ = ["ELSEWHERE", "Elsewhere", "SecondDevice", "elsewhere"]

ELSEWHERE = torch.device("meta")  # the one device besides the CPU that autograd knows in every build
AnyModule = TypeVar("AnyModule", bound=nn.Module)
MOVES = (torch.ops.aten.copy_.default,)  # what may read from one device and write to another


class Elsewhere(Tensor):
    """A tensor on the second device."""

    content: Tensor  # on the CPU

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.content = inner

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.content})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares it as no method of the class, and calls it as one
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        returns = func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu")

        def content(tensor: Tensor) -> Tensor:
            if isinstance(tensor, Elsewhere):
                return tensor.content
            if tensor.ndim and func not in MOVES:
                raise RuntimeError(f"{func}: a tensor on the CPU, {tuple(tensor.shape)}, meets one that is elsewhere")
            return tensor

        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        inner = {name: _changed(content, part) for name, part in kwargs.items()}
        found = func(*_changed(content, args), **inner)
        return found if returns else _changed(Elsewhere, found)


def _changed(change: Callable[[Tensor], Tensor], part: Any) -> Any:
    """The same with every tensor in it changed."""
    if isinstance(part, Tensor):
        return change(part)
    return type(part)(_changed(change, each) for each in part) if isinstance(part, list | tuple) else part


def elsewhere(module: AnyModule) -> AnyModule:
    """A module there; torch's own way would part weights that are tied, as it does with no real device."""
    moved: dict[Tensor, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in [*part._parameters.items()]:
            if parameter is not None and not isinstance(parameter.data, Elsewhere):
                if parameter not in moved:
                    moved[parameter] = nn.Parameter(Elsewhere(parameter.detach().clone()))
                setattr(part, name, moved[parameter])
        for name, buffer in [*part._buffers.items()]:
            if isinstance(buffer, Tensor) and not isinstance(buffer, Elsewhere):
                setattr(part, name, Elsewhere(buffer.clone()))
    return module


class SecondDevice(TorchFunctionMode):
    """Within the body `ELSEWHERE` is a device with data."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else None
        if isinstance(first, Elsewhere) and name in ("tolist", "numpy"):
            if name == "numpy":
                raise TypeError("a tensor that is elsewhere is no array of numpy's")
            return first.content.tolist()
        if name == "__setitem__" and isinstance(first, Elsewhere) and not isinstance(args[2], Tensor):
            args = (*args[:2], Elsewhere(torch.tensor(args[2], dtype=first.dtype)))
        if name == "where":
            there = any(isinstance(part, Elsewhere) for part in args)
            args = tuple(
                Elsewhere(torch.tensor(each)) if there and isinstance(each, int | float) else each for each in args
            )
        if name in COMPOSED:  # those that torch would compose of tensors on a device that it takes to be empty
            with self:
                return COMPOSED[name](*args, **kwargs)
        if name == "to" and isinstance(first, Tensor) and not isinstance(first, Elsewhere):
            if any(isinstance(other, Elsewhere) or _is_elsewhere(other) for other in (*args[1:], kwargs.get("device"))):
                like = next((other.dtype for other in args[1:] if isinstance(other, Tensor)), first.dtype)
                return Elsewhere(first.detach().to(like, copy=True))
        elif _is_elsewhere(kwargs.get("device")) and not any(isinstance(each, Elsewhere) for each in args):
            kwargs["device"] = torch.device("cpu")
            return Elsewhere(func(*args, **kwargs))
        return func(*args, **kwargs)


def _is_elsewhere(device: object) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device) == ELSEWHERE


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return F.dropout(scores.softmax(-1), dropout_p) @ value


def _lstm(x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, ...]:
    w, u, b_w, b_u = weights
    h, c = state[0][0], state[1][0]
    steps = []
    for token in x.unbind(1):
        h, c = lstm(token, (h, c), w=w, u=u, b_w=b_w, b_u=b_u)
        steps.append(h)
    return torch.stack(steps, dim=1), h[None], c[None]


def _simple(cell: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def run(x: Tensor, state: Tensor, weights: Sequence[Tensor], *options: Any) -> tuple[Tensor, Tensor]:
        w, u, b_w, b_u = weights
        h, steps = state[0], []
        for token in x.unbind(1):
            h = cell(token, h, w=w, u=u, b_w=b_w, b_u=b_u)
            steps.append(h)
        return torch.stack(steps, dim=1), h[None]

    return run


COMPOSED: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": _attend,
    "lstm": _lstm,
    "gru": _simple(gru),
    "rnn_tanh": _simple(rnn),
}
