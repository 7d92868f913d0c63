"""Errors with messages for users: what went wrong, where, and what to do about it.

Every error that a user can cause is a `SeqkitError`. `what` says what happened and where; `hint` says what to do about
it. The command line prints both and exits with `exit_code`; library code only raises.

    SeqkitError            1   a fault of seqkit itself
    +-- ConfigError        2   usage, recipe, settings
    +-- DataError          3   corpora, text files
    +-- ModelError         4   run folders, checkpoints, codecs
    +-- ResourceError      5   memory, disk, device
    +-- DivergenceError    6   training produced numbers that are not finite
    +-- ThresholdError     7   a required score is not reached
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
    "is_disk_full",
]


class SeqkitError(Exception):
    """Base of all errors that seqkit raises deliberately."""

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
    """A run folder, checkpoint or codec that is missing, damaged or of another program."""

    exit_code = 4


class ResourceError(SeqkitError):
    """Memory, disk or device do not suffice."""

    exit_code = 5


class DivergenceError(SeqkitError):
    """Training repeatedly produced numbers that are not finite."""

    exit_code = 6


class ThresholdError(SeqkitError):
    """A score is below the required minimum (`--min-*`)."""

    exit_code = 7


class BusyError(SeqkitError):
    """Another live process holds the folder."""

    exit_code = 8


class Interrupted(SeqkitError):  # noqa: N818 - the user's wish, not an error
    """Training stopped by a signal after everything was saved; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int, what: str, hint: str | None = None) -> None:
        super().__init__(what, hint)
        self.exit_code = 128 + signal_number


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that ends with this error."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, OSError) and is_disk_full(error):
        return ResourceError.exit_code
    return error.exit_code if isinstance(error, SeqkitError) else 1


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written because the disk, a quota or a size limit is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most similar to `word`, for "did you mean"; None when none is similar."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return matches[0] if matches else None
