"""Errors: what and what to do, one exit code each, and a near name for a misspelt one."""

from __future__ import annotations

import errno

import pytest

from seqkit.errors import (
    BusyError,
    ConfigError,
    DataError,
    DivergenceError,
    Interrupted,
    ModelError,
    ResourceError,
    SeqkitError,
    ThresholdError,
    closest,
    exit_code_of,
    is_disk_full,
)


def test_every_kind_has_an_exit_code_of_its_own() -> None:
    kinds = [ConfigError, DataError, ModelError, ResourceError, DivergenceError, ThresholdError, BusyError]
    assert [kind("x").exit_code for kind in [SeqkitError, *kinds]] == list(range(1, 9))
    assert [Interrupted(signal, "x").exit_code for signal in (2, 15)] == [130, 143]
    assert all(issubclass(kind, SeqkitError) for kind in [*kinds, Interrupted])


def test_a_hint_stands_on_a_line_of_its_own() -> None:
    assert str(DataError("a is empty")) == "a is empty"
    assert str(DataError("a is empty", "look at it")) == "a is empty\nhint: look at it"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelError("x"), 4),
        (Interrupted(15, "x"), 143),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "full"), 5),
        (OSError(errno.EACCES, "no"), 1),
        (ValueError("x"), 1),
    ],
)
def test_whatever_ends_a_command_has_a_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_disk_is_full_by_quota_and_by_size_too() -> None:
    numbers = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO]
    assert [is_disk_full(OSError(number, "x")) for number in numbers] == [True, True, True, False]


def test_the_nearest_name_is_proposed_and_none_where_nothing_is_near() -> None:
    assert closest("leraning_rate", ["rate", "learning_rate", "seed"]) == "learning_rate"
    assert closest("xyz", ["rate", "seed"]) is None
