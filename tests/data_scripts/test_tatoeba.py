"""The fixed split is copied as it is; a new split never leaks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_scripts import tatoeba
from seqkit.errors import DataError

PARTS = {
    "train": [("Go.", "Va !"), ("Run!", "Cours !"), ("Run!", "Courez !")],
    "valid": [("Hi.", "Salut !")],
    "test": [("Stop!", "Stop !")],
}
SIZES = {name: len(pairs) for name, pairs in PARTS.items()}


def write(folder: Path, parts: dict[str, list[tuple[str, str]]]) -> list[str]:
    folder.mkdir()
    for name, pairs in parts.items():
        text = "".join(f"{english}\t{french}\n" for english, french in pairs)
        (folder / f"{name}.en-fr.tsv").write_text(text, encoding="utf-8")
    return ["--from", str(folder), "--out", str(folder.parent / "out")]


def test_the_fixed_split_is_copied(tmp_path: Path) -> None:
    tatoeba.main(write(tmp_path / "copy", PARTS), sizes=SIZES)
    for name in PARTS:
        written = (tmp_path / "out" / f"{name}.tsv").read_bytes()
        assert written == (tmp_path / "copy" / f"{name}.en-fr.tsv").read_bytes()


@pytest.mark.parametrize("leak", [("Go.", "Pars !"), ("Leave.", "Va !")])
@pytest.mark.parametrize("name", ["valid", "test"])
def test_a_sentence_of_train_in_another_part_is_refused(tmp_path: Path, leak: tuple[str, str], name: str) -> None:
    with pytest.raises(DataError, match=f"a sentence of {name} occurs in train"):
        tatoeba.main(write(tmp_path / "copy", PARTS | {name: [leak]}), sizes=SIZES)
    assert not (tmp_path / "out").exists()


def test_a_wrong_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the original has 138029"):
        tatoeba.main(write(tmp_path / "copy", PARTS))


def test_without_a_source_both_ways_are_named() -> None:
    with pytest.raises(DataError, match="not on the hub") as error:
        tatoeba.main([])
    assert error.value.hint is not None
    assert "--from" in error.value.hint
    assert "--pairs" in error.value.hint


def test_a_download_is_split_anew(tmp_path: Path) -> None:
    lines = [f"sentence {i}.\tphrase {i}.\tCC-BY 2.0\n" for i in range(20)] + ["sentence 0.\tautre.\tCC-BY 2.0\n"]
    (tmp_path / "fra.txt").write_text("".join(lines), encoding="utf-8")
    tatoeba.main(["--pairs", str(tmp_path / "fra.txt"), "--out", str(tmp_path / "out")], held_out=5)
    sizes = [(tmp_path / "out" / f"{name}.tsv").read_bytes().count(b"\n") for name in PARTS]
    assert sizes == [11, 5, 5]


def test_too_few_lone_pairs_are_an_error() -> None:
    with pytest.raises(DataError, match="1 pairs stand apart"):
        tatoeba.split([("a", "x"), ("b", "y"), ("b", "z")], held_out=1)


SENTENCES = st.integers(0, 30).map(str)


@given(st.lists(st.tuples(SENTENCES, SENTENCES), max_size=40))
def test_a_new_split_keeps_every_pair_once_and_leaks_nothing(pairs: list[tuple[str, str]]) -> None:
    always_alone = [(f"lone {i}", f"seul {i}") for i in range(4)]
    pairs = pairs + always_alone
    parts = tatoeba.split(pairs, held_out=2)
    assert sorted(pair for part in parts.values() for pair in part) == sorted(set(pairs))
    assert len(parts["valid"]) == len(parts["test"]) == 2
    for side in (0, 1):
        sentences = [{pair[side] for pair in part} for part in parts.values()]
        assert sum(map(len, sentences)) == len(set().union(*sentences))


def test_a_new_split_does_not_depend_on_the_order_of_the_file() -> None:
    pairs = [(f"sentence {i}", f"phrase {i}") for i in range(50)]
    forwards, backwards = tatoeba.split(pairs, held_out=5), tatoeba.split(pairs[::-1], held_out=5)
    assert {name: set(part) for name, part in forwards.items()} == {name: set(part) for name, part in backwards.items()}
