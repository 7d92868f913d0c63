"""Processes that translate side by side, each with models of its own and one thread.

Threads share an interpreter, processes do not, but they take seconds to load everything. On two cores both are equally
fast (recipes/notes/translation-speed.md). The translations are the same.
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

PARTS = 4  # of a window for each worker, so that the others wait little for the last one


class Workers:
    """`count` processes with the same models, as a context manager; they end when it or their parent process ends."""

    def __init__(self, paths: Sequence[str | Path], *, count: int, glossary: Glossary | None = None) -> None:
        """Start processes that load the models in the background, on the CPU."""
        self.count = count
        self._pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), _load, ([str(path) for path in paths], glossary)
        )
        with _ignore_interrupts():
            self._ready = self._pool.submit(_wait_for_load)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def translate(
        self, lines: Iterable[Line], *, search: Search, protect: bool = False, explain: bool = False
    ) -> Iterator[Translation]:
        """As `Translator.translate` with the same settings: a translation for each line, in their order.

        Raises the errors of that method, and ResourceError if a worker is lost.
        """
        pending = [*lines]
        for first in range(0, len(pending), WINDOW):
            yield from self._window(pending[first : first + WINDOW], _Request(search, protect, explain))

    def _window(self, lines: Sequence[Line], request: _Request) -> list[Translation]:
        order = sorted(range(len(lines)), key=lambda index: -len(lines[index].text))  # the longest work begins first
        size = -(-len(order) // (PARTS * self.count))
        parts = [order[first : first + size] for first in range(0, len(order), size)]
        translations: dict[int, Translation] = {}
        try:
            futures: list[Future[list[Translation]]] = [
                self._pool.submit(_translate, [lines[index] for index in part], request) for part in parts
            ]
            for part, future in zip(parts, futures, strict=True):
                translations.update(zip(part, future.result(), strict=True))
        except BrokenProcessPool:
            raise ResourceError(
                "a worker process was lost", "there may be too little memory: choose fewer --workers"
            ) from None
        return [translations[index] for index in range(len(lines))]


class _Request(NamedTuple):
    """The settings of one call of `translate`."""

    search: Search
    protect: bool
    explain: bool


class _ignore_interrupts:  # noqa: N801  (used like a function)
    """Processes that start within it inherit that SIGINT is ignored: the parent handles Ctrl-C and ends them."""

    def __enter__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()  # only it may set signal handlers
        self.previous = signal.signal(signal.SIGINT, signal.SIG_IGN) if self.main else None

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.previous)


# The translator and the glossary of a worker process: set once by `_load`, used by each call of `_translate`.
_loaded: list[tuple[Translator, Glossary | None]] = []


def _load(paths: Sequence[str], glossary: Glossary | None) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _loaded.append((Translator.load(*paths, device="cpu"), glossary))


def _exit_with_parent() -> None:
    """End this process when its parent ends; a parent that is killed could not end it."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _wait_for_load() -> None:
    """An empty task: it is done as soon as a worker has loaded its models."""


def _translate(lines: Sequence[Line], request: _Request) -> list[Translation]:
    [(translator, glossary)] = _loaded
    translations = translator.translate(
        lines, search=request.search, glossary=glossary, protect=request.protect, explain=request.explain
    )
    return [*translations]
