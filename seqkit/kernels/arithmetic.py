"""Which arithmetic kernels calculate in: set around a training step, read by the kernels, invisible to layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BLOCK_ROWS", "Arithmetic", "calculating", "cast_in_blocks", "current", "product_dtype", "products_in"]

BLOCK_ROWS = 128


class Arithmetic(NamedTuple):
    """What kernels may do for the sake of speed."""

    products: torch.dtype | None = None  # the arithmetic of matrix products; None: that of their inputs
    byte_dropout: bool = True  # on a CPU, whether dropout draws one random byte an element instead of torch's numbers


DEFAULT = Arithmetic()

_CURRENT: ContextVar[Arithmetic] = ContextVar("arithmetic", default=DEFAULT)


def current() -> Arithmetic:
    """What kernels calculate in now."""
    return _CURRENT.get()


@contextlib.contextmanager
def calculating(arithmetic: Arithmetic) -> Iterator[None]:
    """Within the body, kernels calculate in `arithmetic`."""
    token = _CURRENT.set(arithmetic)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def products_in(dtype: torch.dtype | None) -> contextlib.AbstractContextManager[None]:
    """Within the body, matrix products are made in `dtype`, and their sums handed on in float32.

    This is narrower than autocast: only the products change, so nothing else is converted back and forth, and on a
    processor with bfloat16 instructions even small layers gain. None leaves products as they are.
    """
    return calculating(current()._replace(products=dtype))


def product_dtype(x: Tensor) -> torch.dtype | None:
    """The arithmetic for products with `x`; None where it is that of `x`."""
    if torch.compiler.is_compiling() or x.dtype != torch.float32:
        return None  # a compiler cannot look into a context, and narrows products by autocast
    return current().products


def cast_in_blocks(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """rows (R, D) in another arithmetic; on a CPU zero rows are added up to a multiple of `BLOCK_ROWS`.

    On a CPU each new shape of a narrow product costs a kernel to be generated, which takes as long as several products
    and stays in memory; batches of text come in hundreds of shapes, multiples of `BLOCK_ROWS` in a dozen.
    """
    count = -(-len(rows) // BLOCK_ROWS) * BLOCK_ROWS
    if count == len(rows) or rows.device.type != "cpu":
        return rows.to(dtype)
    padded = rows.new_empty(count, rows.shape[1], dtype=dtype)
    padded[: len(rows)] = rows
    padded[len(rows) :] = 0
    return padded
