"""Commands in this process, with bytes as their standard input and output."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from unittest.mock import patch

from seqkit.cli.main import main

__all__ = ["output_of", "standard_input"]


class _Terminal(io.TextIOWrapper):
    """A stream that looks like a terminal."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    """Within the body these bytes are what comes in."""
    with patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(content))):
        yield


def output_of(words: Sequence[str], content: bytes = b"", *, terminal: bool = False) -> bytes:
    """What a command writes when these bytes come in; it must end well."""
    written = io.BytesIO()
    kind = _Terminal if terminal else io.TextIOWrapper
    out = kind(written, encoding="utf-8", errors="surrogateescape")
    with standard_input(content), patch.object(sys, "stdout", out):
        code = main(list(words))
        out.flush()
    assert code == 0, code
    return written.getvalue()
