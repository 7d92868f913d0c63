"""Errors meant for people: what went wrong, where, and what to do about it.

Every error that a user can cause is a `SeqkitError`. Its first text says what happened and where; `hint` says what to
do. The command line prints the two lines and leaves with `exit_code`; library code only raises.

    SeqkitError            1   a fault of seqkit itself
    +-- ConfigError        2   usage, recipe, settings
    +-- DataError          3   corpora, text files
    +-- ModelError         4   run folders, checkpoints, codecs
    +-- ResourceError      5   memory, disk, device
    +-- DivergenceError    6   training left the finite numbers
    +-- ThresholdError     7   a required score was not reached
    +-- BusyError          8   another process works in this folder
    +-- Interrupted  130/143   stopped by a signal, after saving
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

__all__ = [
    "BusyError",
    "ConfigError",
    "DataError",
    "DivergenceError",
    "Interrupted",
    "ModelError",
    "ResourceError",
    "SeqkitError",
    "ThresholdError",
    "closest",
    "exit_code_of",
    "no_room",
]


class SeqkitError(Exception):
    """Base of all errors that seqkit raises on purpose."""

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return self.what if self.hint is None else f"{self.what}\nhint: {self.hint}"


class ConfigError(SeqkitError):
    """A mistake in a recipe, an override or a command."""

    exit_code = 2


class DataError(SeqkitError):
    """A corpus or text file that cannot be used as it is."""

    exit_code = 3


class ModelError(SeqkitError):
    """A run folder, checkpoint or codec that is missing, damaged or foreign."""

    exit_code = 4


class ResourceError(SeqkitError):
    """Memory, disk or device do not suffice."""

    exit_code = 5


class DivergenceError(SeqkitError):
    """Training produced numbers that are not finite, again and again."""

    exit_code = 6


class ThresholdError(SeqkitError):
    """A score stayed below what the caller demanded (`--min-*`)."""

    exit_code = 7


class BusyError(SeqkitError):
    """Another live process holds the folder."""

    exit_code = 8


class Interrupted(SeqkitError):  # noqa: N818 - being stopped is no error
    """Stopped by a signal after everything was saved; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int, what: str, hint: str | None = None) -> None:
        super().__init__(what, hint)
        self.exit_code = 128 + signal_number


def exit_code_of(error: BaseException) -> int:
    """The code with which a command ends that this error ended."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, OSError) and no_room(error):
        return ResourceError.exit_code
    return error.exit_code if isinstance(error, SeqkitError) else 1


def no_room(error: OSError) -> bool:
    """Whether something could not be written because the disk, a quota or a limit is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, for "did you mean"; None when nothing is near."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None
