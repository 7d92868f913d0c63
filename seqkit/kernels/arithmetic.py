"""The arithmetic of kernels: set around a training step, read by the kernels, invisible to layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BLOCK_ROWS",
    "Arithmetic",
    "calculating",
    "cast_in_blocks",
    "current_arithmetic",
    "product_dtype",
    "products_in",
]

BLOCK_ROWS = 128  # numbers of rows are rounded up to a multiple of this on a CPU


class Arithmetic(NamedTuple):
    """How kernels may trade exactness for speed."""

    products: torch.dtype | None = None  # of matrix products; None: that of their inputs
    byte_dropout: bool = True  # on a CPU, whether dropout draws one random byte an element instead of torch's numbers


DEFAULT = Arithmetic()

_CURRENT: ContextVar[Arithmetic] = ContextVar("arithmetic", default=DEFAULT)


def current_arithmetic() -> Arithmetic:
    """The arithmetic that is set now."""
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
    """Within the body, matrix products are computed in `dtype` and returned in float32.

    Unlike autocast this changes the products alone, so nothing else is converted back and forth, and on a processor
    with bfloat16 instructions even small layers gain. None leaves products as they are.
    """
    return calculating(current_arithmetic()._replace(products=dtype))


def product_dtype(x: Tensor) -> torch.dtype | None:
    """The arithmetic set for products with `x`; None where it is that of `x`."""
    if torch.compiler.is_compiling() or x.dtype != torch.float32:
        return None  # torch.compile does not see context variables; compiled code runs under autocast instead
    return current_arithmetic().products


def cast_in_blocks(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """rows (R, D) in another arithmetic; on a CPU zero rows are added up to a multiple of `BLOCK_ROWS`.

    On a CPU oneDNN generates a kernel for each new shape of a narrow product, which takes as long as several products
    and stays in memory; batches of text come in hundreds of shapes, multiples of `BLOCK_ROWS` in a dozen.
    """
    count = -(-len(rows) // BLOCK_ROWS) * BLOCK_ROWS
    if count == len(rows) or rows.device.type != "cpu":
        return rows.to(dtype)
    padded = rows.new_empty(count, rows.shape[1], dtype=dtype)
    padded[: len(rows)] = rows
    padded[len(rows) :] = 0
    return padded
