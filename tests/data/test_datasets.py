"""Encoded text is a list of lists in two arrays, in memory or on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkit.data.datasets import Encoded
from seqkit.errors import DataError

SEQUENCES = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=12)


def lists(encoded: Encoded) -> list[list[int]]:
    return [encoded[index].tolist() for index in range(len(encoded))]


@given(SEQUENCES, st.data())
def test_it_is_a_list_of_lists(sequences: list[list[int]], data: st.DataObject) -> None:
    encoded = Encoded.from_lists(iter(sequences))
    assert len(encoded) == len(sequences)
    assert lists(encoded) == sequences
    assert encoded.lengths.tolist() == [len(sequence) for sequence in sequences]
    chosen = data.draw(st.lists(st.integers(0, len(sequences) - 1)) if sequences else st.just([]))
    taken = encoded.take(np.array(chosen, dtype=np.int64))
    assert lists(taken) == [sequences[index] for index in chosen]
    for index in range(-len(sequences), len(sequences)):
        assert encoded[index].tolist() == sequences[index]
    for index in (-len(sequences) - 1, len(sequences)):
        with pytest.raises(IndexError):
            encoded[index]


@given(SEQUENCES)
@settings(max_examples=25)  # each example is made durable, which takes the disk a while
def test_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, sequences: list[list[int]]) -> None:
    prefix = tmp_path_factory.mktemp("encoded") / "train.v1"
    encoded = Encoded.from_lists(sequences)
    encoded.save(prefix)
    loaded = Encoded.load(prefix)
    assert lists(loaded) == sequences
    assert lists(loaded.take(np.arange(len(sequences)))) == sequences
    assert loaded.fingerprint == encoded.fingerprint
    assert not loaded.ids.flags.writeable
    assert sorted(path.name for path in prefix.parent.iterdir()) == ["train.v1.ids.npy", "train.v1.offsets.npy"]


@given(SEQUENCES, SEQUENCES)
def test_fingerprints_tell_sequences_apart(one: list[list[int]], other: list[list[int]]) -> None:
    assert (Encoded.from_lists(one).fingerprint == Encoded.from_lists(other).fingerprint) == (one == other)


def test_fingerprints_see_the_borders() -> None:
    assert Encoded.from_lists([[1], [2, 3]]).fingerprint != Encoded.from_lists([[1, 2], [3]]).fingerprint


@pytest.mark.parametrize("name", ["x.ids.npy", "x.offsets.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "foreign", "pickle"])
def test_damage_is_a_data_error(tmp_path: Path, name: str, damage: str) -> None:
    Encoded.from_lists([[1, 2], [3]]).save(tmp_path / "x")
    path = tmp_path / name
    match damage:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "short":
            path.write_bytes(path.read_bytes()[:-3])
        case "foreign":
            np.save(path, np.zeros(3))
        case "pickle":
            np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError) as caught:
        Encoded.load(tmp_path / "x")
    assert str(path) in caught.value.what
    assert caught.value.hint


def test_arrays_of_two_corpora_do_not_mix(tmp_path: Path) -> None:
    Encoded.from_lists([[1, 2], [3]]).save(tmp_path / "x")
    Encoded.from_lists([[1, 2], [3, 4]]).save(tmp_path / "y")
    (tmp_path / "y.ids.npy").rename(tmp_path / "x.ids.npy")
    with pytest.raises(DataError, match="does not belong"):
        Encoded.load(tmp_path / "x")


def test_a_write_that_fails_leaves_nothing_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Encoded.from_lists([[1, 2], [3]]).save(tmp_path / "x")

    def fail(*arguments: object, allow_pickle: bool) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        Encoded.from_lists([[9, 9], [9]]).save(tmp_path / "x")
    with pytest.raises(DataError):
        Encoded.load(tmp_path / "x")
