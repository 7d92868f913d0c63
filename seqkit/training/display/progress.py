"""How a training run shows itself to a person: a live panel on a terminal, plain lines in a pipe, or hardly at all."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from seqkit.system.terminal import escape
from seqkit.training.display.panel import Panel
from seqkit.training.display.snapshot import Sample, Snapshot, plain_line

__all__ = ["Display", "Panel", "PlainProgress", "Quiet", "Sample", "Snapshot", "display"]


class Display(Protocol):
    """What training tells a person; nothing it is told can raise, and nothing goes to stdout."""

    def started(self, summary: Sequence[str]) -> None:
        """Before the first step: what is going to happen, line by line."""
        ...

    def update(self, snapshot: Snapshot) -> None:
        """After a step; shown as often as the display sees fit."""
        ...

    def message(self, text: str) -> None:
        """Something that a person should know even when quiet: a warning, a stop."""
        ...

    def validated(self, snapshot: Snapshot) -> None:
        """After a validation."""
        ...

    def close(self) -> None:
        """After the last step; may be called again."""
        ...


class PlainProgress:
    """One `key=value` line every `log_seconds` seconds and at each validation: no colours, nothing redrawn."""

    def __init__(
        self, stream: TextIO | None = None, *, log_seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._log_seconds = log_seconds
        self._clock = clock
        self._printed = -math.inf
        self._last: Snapshot | None = None

    def started(self, summary: Sequence[str]) -> None:
        """Print the summary."""
        for line in summary:
            self.message(line)

    def update(self, snapshot: Snapshot) -> None:
        """Print a line if the last one is old enough; the first comes at once."""
        self._last = snapshot
        if self._clock() - self._printed >= self._log_seconds:
            self._show(plain_line(snapshot))

    def message(self, text: str) -> None:
        """Print text, each of its lines as one, with controls made visible."""
        for line in text.splitlines():
            self._print(escape(line))

    def validated(self, snapshot: Snapshot) -> None:
        """Print a line with the development scores."""
        self._show(plain_line(snapshot, validated=True))

    def close(self) -> None:
        """Print the last state, if it was not."""
        if self._last is not None:
            self._show(plain_line(self._last))

    def _show(self, line: str) -> None:
        self._printed = self._clock()
        self._last = None
        self._print(line)

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError):  # a reader that went away must not end the run
            print(line, file=self._stream, flush=True)


class Quiet:
    """Shows messages and nothing else."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._plain = PlainProgress(stream)

    def started(self, summary: Sequence[str]) -> None:
        """Say nothing at the start."""

    def update(self, snapshot: Snapshot) -> None:
        """Show no numbers."""

    def message(self, text: str) -> None:
        """Print what a person must know."""
        self._plain.message(text)

    def validated(self, snapshot: Snapshot) -> None:
        """Show no scores."""

    def close(self) -> None:
        """Leave nothing behind."""


def display(*, terminal: bool, quiet: bool, log_seconds: float = 30.0) -> Display:
    """The display for this invocation, on stderr; `terminal`: whether stderr is one that can be redrawn."""
    if quiet:
        return Quiet()
    return Panel() if terminal else PlainProgress(log_seconds=log_seconds)
