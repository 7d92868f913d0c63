"""Encoded examples: the ids of many sequences as two arrays, in memory or memory-mapped.

ids      7 4 9 | 5 5 | | 8          all sequences, concatenated
offsets  0       3     5 5   6      sequence i is ids[offsets[i]:offsets[i + 1]]
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import DataError
from seqkit.files import replacing

__all__ = ["Encoded"]


class Encoded:
    """Read-only id sequences, without special tokens, which are added when batches are built."""

    def __init__(self, ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        self.ids = ids  # (tokens,)
        self.offsets = offsets  # (sequences + 1,)

    @classmethod
    def from_lists(cls, sequences: Iterable[Sequence[int]]) -> Encoded:
        """Concatenate sequences of ids, which are iterated once."""
        ids, lengths = array("i"), array("q")
        for sequence in sequences:
            ids.extend(sequence)
            lengths.append(len(sequence))
        offsets = np.fromiter(accumulate(lengths, initial=0), dtype=np.int64, count=len(lengths) + 1)
        return cls(np.array(ids, dtype=np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """The ids of one sequence, a view of shape (length,)."""
        index = range(len(self))[index]
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The number of ids of each sequence: (sequences,)."""
        return np.diff(self.offsets)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal: equal for equal sequences, in memory or mapped."""
        content = hashlib.sha256(str(len(self)).encode())
        content.update(np.ascontiguousarray(self.offsets, dtype="<i8").data)
        content.update(np.ascontiguousarray(self.ids, dtype="<i4").data)
        return content.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> Encoded:
        """A copy of the sequences with these indices, in this order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
        shifts = np.repeat(self.offsets[indices] - offsets[:-1], lengths)  # of each token: old minus new position
        return Encoded(self.ids[shifts + np.arange(len(shifts))], offsets)

    def save(self, prefix: str | Path) -> None:
        """Write `PREFIX.ids.npy` and `PREFIX.offsets.npy` so that, if interrupted, there are no offsets."""
        ids_path, offsets_path = _paths(prefix)
        offsets_path.unlink(missing_ok=True)  # old offsets must never be combined with new ids
        for path, values in ((ids_path, self.ids), (offsets_path, self.offsets)):
            with replacing(path) as stream:
                np.save(stream, values, allow_pickle=False)

    @classmethod
    def load(cls, prefix: str | Path) -> Encoded:
        """Memory-map the files that `save` wrote. Raises DataError when they are missing or damaged."""
        ids_path, offsets_path = _paths(prefix)
        offsets, ids = _map(offsets_path, np.int64), _map(ids_path, np.int32)
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
            raise DataError(f"{offsets_path} does not belong to {ids_path}", _REMEDY)
        return cls(ids, offsets)


_REMEDY = "delete the file: it is made anew from the corpus"


def _paths(prefix: str | Path) -> tuple[Path, Path]:
    prefix = Path(prefix)
    return prefix.with_name(f"{prefix.name}.ids.npy"), prefix.with_name(f"{prefix.name}.offsets.npy")


def _map(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "it is made from the corpus") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is damaged: {error}", _REMEDY) from None
    if not isinstance(values, np.memmap) or values.dtype != kind or values.ndim != 1:
        raise DataError(f"{path} does not hold encoded text", _REMEDY)
    return values.view(np.ndarray)
