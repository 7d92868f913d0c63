"""Spelling is right, pairs are distinct, parts are disjoint, and the recipe is one."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.demo import parallel_corpora as demo
from seqkit.errors import ConfigError, DataError, ResourceError
from seqkit.settings import Recipe

Task = Literal["numbers", "reverse"]

TIMES = {
    (3, 30): ("half past three", "halb vier"),
    (12, 30): ("half past twelve", "halb eins"),
    (1, 0): ("one o'clock", "ein Uhr"),
    (7, 0): ("seven o'clock", "sieben Uhr"),
    (1, 15): ("quarter past one", "Viertel nach eins"),
    (12, 45): ("quarter to one", "Viertel vor eins"),
    (11, 5): ("five past eleven", "fünf nach elf"),
    (11, 35): ("twenty-five to twelve", "fünfundzwanzig vor zwölf"),
}


@pytest.mark.parametrize(("clock", "spoken"), TIMES.items())
def test_times_are_told_right(clock: tuple[int, int], spoken: tuple[str, str]) -> None:
    assert demo._time(*clock) == spoken


def test_digit_ordinals_have_their_endings() -> None:
    assert [demo._numeral(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)] == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 30th 31st".split()  # noqa: SIM905
    )


def test_every_full_date_has_its_true_weekday_on_both_sides() -> None:
    english_months = "January February March April May June July August September October November December"
    german_months = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember"
    english_days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".lower().split()
    german_days = "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split()  # noqa: SIM905
    seen = 0
    for source, target in demo.numbers(2000, seed=5):
        english = re.fullmatch(r"the (\d+)(?:st|nd|rd|th) of (\w+) (\d{4}), a (\w+)", source)
        if english is None:
            continue
        seen += 1
        german = re.fullmatch(r"(\w+), der (\d+)\. (\w+) (\d{4})", target)
        assert german is not None
        day = date(int(english[3]), english_months.lower().split().index(english[2].lower()) + 1, int(english[1]))
        assert day == date(int(german[4]), german_months.split().index(german[3]) + 1, int(german[2]))
        assert english_days.index(english[4].lower()) == german_days.index(german[1]) == day.weekday()
    assert seen > 200


@pytest.mark.parametrize("task", ["numbers", "reverse"])
def test_a_corpus_is_clean_distinct_and_reproducible(task: Task) -> None:
    make = {"numbers": demo.numbers, "reverse": demo.reverse}[task]
    pairs = make(1000, seed=7)
    assert len({source.lower() for source, _ in pairs}) == 1000
    assert pairs[:100] == make(100, seed=7)
    assert pairs[:100] != make(100, seed=8)
    for text in (text for pair in pairs for text in pair):
        assert text == " ".join(text.split())


def test_the_numbers_corpus_has_all_its_kinds() -> None:
    text = "\n".join(f"{source}\t{target}" for source, target in demo.numbers(1000, seed=1))
    for part in ("hundred and", "thousand", ", a ", "on the", "o'clock", "half past", "Viertel", "ste ", "sten "):
        assert part in text
    assert re.search("of [a-z]", text)
    assert re.search("of [A-Z]", text)


def test_reverse_turns_letters_around() -> None:
    for source, target in demo.reverse(200, seed=3):
        assert source.replace(" ", "") == target.replace(" ", "")[::-1]
        assert re.fullmatch("[a-z]( [a-z]){2,9}", source)


@pytest.mark.parametrize("count", [-1, 100_001])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="cannot make"):
        demo.numbers(count, seed=1)


PAIRS = st.lists(st.tuples(st.integers(0, 20).map(str), st.text(max_size=2)), max_size=60)


@given(PAIRS, st.integers(0, 5), st.integers(0, 5), st.integers(0, 9))
def test_a_split_keeps_every_pair_once_and_shares_no_source(
    pairs: list[tuple[str, str]], dev: int, test: int, seed: int
) -> None:
    sources = {source for source, _ in pairs}
    if len(sources) <= dev + test:
        with pytest.raises(DataError, match="too few"):
            demo.split(pairs, dev=dev, test=test, seed=seed)
        return
    parts = demo.split(pairs, dev=dev, test=test, seed=seed)
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    found = [{source for source, _ in part} for part in parts]
    assert [len(part) for part in found] == [len(sources) - dev - test, dev, test]
    assert set.union(*found) == sources


def rows(path: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split("\t")) for line in path.read_bytes().decode().removesuffix("\n").split("\n")]


@pytest.mark.parametrize("task", ["numbers", "reverse"])
def test_the_written_folder_is_complete(tmp_path: Path, task: Task) -> None:
    folder = tmp_path / 'a "strange" näme\\'
    written = demo.write(folder, task)
    assert sorted(path.name for path in written) == ["dev.tsv", "recipe.toml", "test.tsv", "train.tsv"]
    parts = [rows(folder / f"{name}.tsv") for name in ("train", "dev", "test")]
    assert [len(part) for part in parts] == [8000, 200, 500]
    assert {len(row) for part in parts for row in part} == {2}
    assert len({row[0].lower() for part in parts for row in part}) == 8700
    recipe = msgspec.convert(tomllib.loads((folder / "recipe.toml").read_bytes().decode()), Recipe)
    assert recipe.name == task
    assert recipe.data.train == ((folder / "train.tsv").as_posix(),)
    assert recipe.data.dev == ((folder / "dev.tsv").as_posix(),)
    assert recipe.out == (folder / "run").as_posix()


def test_writing_again_changes_nothing_and_edited_files_are_kept(tmp_path: Path) -> None:
    demo.write(tmp_path, "reverse")
    train = (tmp_path / "train.tsv").read_bytes()
    demo.write(tmp_path, "reverse")
    (tmp_path / "recipe.toml").write_text("mine", encoding="utf-8")
    (tmp_path / "train.tsv").unlink()
    with pytest.raises(ConfigError, match=r"recipe\.toml exists and differs"):
        demo.write(tmp_path, "reverse")
    assert not (tmp_path / "train.tsv").exists()
    assert (tmp_path / "recipe.toml").read_text(encoding="utf-8") == "mine"
    demo.write(tmp_path, "reverse", seed=2, overwrite=True)
    assert (tmp_path / "train.tsv").read_bytes() != train
    assert "mine" not in (tmp_path / "recipe.toml").read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot write"):
        demo.write(tmp_path / "file", "reverse")
