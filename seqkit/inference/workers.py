"""Processes that translate side by side, each with models of its own and one thread.

Threads share an interpreter, processes do not, at the price of seconds until they have loaded everything. On two cores
the two are alike (recipes/README.md). What comes out is the same.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch

from seqkit.errors import ResourceError
from seqkit.inference.glossary import Glossary
from seqkit.inference.translation import Line, Translation
from seqkit.inference.translator import WINDOW, Translator
from seqkit.settings import Search

__all__ = ["Workers"]

PARTS = 4  # of a window for each worker, so that none waits long for the last one


class Workers:
    """So many processes with the same models, as a context manager; they leave when it ends, or their parent does."""

    def __init__(self, paths: Sequence[str | Path], *, count: int, glossary: Glossary | None = None) -> None:
        """Begin to load the models in the background; the processes work on the CPU."""
        self.count = count
        self._pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), _begin, ([str(path) for path in paths], glossary)
        )
        with _uninterrupted():
            self._ready = self._pool.submit(_nothing)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def translate(
        self, lines: Iterable[Line], *, search: Search, protect: bool = False, explain: bool = False
    ) -> Iterator[Translation]:
        """What `Translator.translate` gives for these lines with the same settings, in their order.

        Raises what it raises, and ResourceError if a worker is lost.
        """
        waiting = [*lines]
        for first in range(0, len(waiting), WINDOW):
            yield from self._window(waiting[first : first + WINDOW], _Request(search, protect, explain))

    def _window(self, lines: Sequence[Line], request: _Request) -> list[Translation]:
        order = sorted(range(len(lines)), key=lambda index: -len(lines[index].text))  # the longest work begins first
        size = -(-len(order) // (PARTS * self.count))
        parts = [order[first : first + size] for first in range(0, len(order), size)]
        found: dict[int, Translation] = {}
        try:
            futures: list[Future[list[Translation]]] = [
                self._pool.submit(_translate, [lines[index] for index in part], request) for part in parts
            ]
            for part, future in zip(parts, futures, strict=True):
                found.update(zip(part, future.result(), strict=True))
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process was lost", "there may be too little memory: choose fewer --workers"
            ) from None
        return [found[index] for index in range(len(lines))]


class _Request(NamedTuple):
    search: Search
    protect: bool
    explain: bool


class _uninterrupted:  # noqa: N801  (used like a function)
    """Within it, processes that are begun inherit that Ctrl-C is none of their business: it is their parent's."""

    def __enter__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()
        self.old = signal.signal(signal.SIGINT, signal.SIG_IGN) if self.main else None

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.old)


# What a worker process has: set when it begins, used by each call.
_state: dict[str, tuple[Translator, Glossary | None]] = {}


def _begin(paths: Sequence[str], glossary: Glossary | None) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _state["own"] = Translator.load(*paths, device="cpu"), glossary


def _leave_with_parent() -> None:
    """A parent that is killed cannot say goodbye, and its workers would wait for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _nothing() -> None:
    """Work that is done as soon as a worker has loaded everything."""


def _translate(lines: Sequence[Line], request: _Request) -> list[Translation]:
    translator, glossary = _state["own"]
    found = translator.translate(
        lines, search=request.search, glossary=glossary, protect=request.protect, explain=request.explain
    )
    return [*found]
