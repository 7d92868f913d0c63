"""Outputs that appear when they are complete, and continue after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from seqkit.cli.streams import resumable_output


def whole_lines(partial: BinaryIO) -> tuple[int, int]:
    """The complete lines of a partial output, and their bytes."""
    text = partial.read()
    return text.count(b"\n"), text.rfind(b"\n") + 1


@pytest.mark.parametrize(("partial", "done"), [(None, 0), (b"", 0), (b"one\ntw", 1), (b"one\ntwo\n", 2)])
def test_a_resumed_output_keeps_its_whole_lines_also_at_the_first_start(
    partial: bytes | None, done: int, tmp_path: Path
) -> None:
    """The command of the first start and that of every later one are the same."""
    path = tmp_path / "out"
    if partial is not None:
        (tmp_path / "out.part").write_bytes(partial)
    with resumable_output(str(path), overwrite=False, resume=True, complete=whole_lines) as (stream, lines):
        assert lines == done
        stream.write(b"".join([b"one\n", b"two\n"][lines:]))
        assert not path.exists()
    assert path.read_bytes() == b"one\ntwo\n"
    assert not (tmp_path / "out.part").exists()
