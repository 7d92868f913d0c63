"""The picture has the drawn shape, fits its terminal, and lets no control character through."""

from __future__ import annotations

import math
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from seqkit.inference.heat_map import NOTE, heat_map, merge_pieces

SOURCE = ["the", "5th", "of", "March", "1987", ",", "a", "Thursday"]
TARGET = ["Donnerstag", "der", "März"]
WEIGHTS = [
    [0.06, 0.06, 0.05, 0.03, 0.0, 0.1, 0.1, 0.6],
    [0.45, 0.25, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0],
    [0.0, 0.05, 0.05, 0.83, 0.02, 0.05, 0.0, 0.0],
]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def test_the_picture_is_drawn() -> None:
    assert heat_map(SOURCE, TARGET, WEIGHTS, width=80, colour=False) == [
        "            the  5th  of  March  1987  ,  a  Thursday",
        "Donnerstag   .    .   .                .  .     #",
        "der          *    :   .     .     .",
        "März              .   .     #          .",
        NOTE,
    ]


def test_colour_adds_backgrounds_and_nothing_else() -> None:
    plain = heat_map(SOURCE, TARGET, WEIGHTS, width=80, colour=False)
    coloured = heat_map(SOURCE, TARGET, WEIGHTS, width=80, colour=True)
    assert [ANSI.sub("", line).rstrip() for line in coloured] == plain
    assert coloured[1].count("\x1b[0m") == len(SOURCE)
    assert coloured[1].count("48;5;159m") == 1
    assert "\x1b" not in "".join(plain)


def test_a_narrow_terminal_gets_numbered_columns_and_a_legend() -> None:
    assert heat_map(SOURCE, TARGET, WEIGHTS, width=39, colour=False) == [
        "            1  2  3  4  5  6  7  8",
        "Donnerstag  .  .  .        .  .  #",
        "der         *  :  .  .  .",
        "März           .  .  #     .",
        "1 the  2 5th  3 of  4 March  5 1987",
        "6 ,  7 a  8 Thursday",
        NOTE,
    ]


def test_what_does_not_fit_numbered_becomes_a_list() -> None:
    expected = ["Donnerstag <- Thursday 0.60", "der <- the 0.45", "März <- March 0.83"]
    assert heat_map(SOURCE, TARGET, WEIGHTS, width=30, colour=False)[:3] == expected
    many = [*SOURCE, *["x"] * 53]
    long = [[*row, *[0.0] * 53] for row in WEIGHTS]
    assert heat_map(many, TARGET, long, width=1000, colour=False) == [*expected, NOTE]
    assert heat_map(many[:60], TARGET, [row[:60] for row in long], width=1000, colour=False)[0].endswith("x")


def test_a_long_word_leaves_room_for_the_columns() -> None:
    picture = heat_map(["a", "b"], ["Donaudampfschifffahrt"], [[0.9, 0.1]], width=24, colour=False)
    assert picture[:2] == ["          a  b", "Donauda…  #  ."]


def test_wide_characters_keep_columns_aligned() -> None:
    lines = heat_map(["東京", "a"], ["日本", "x"], [[0.3, 0.7], [0.7, 0.3]], width=40, colour=False)
    assert lines[:3] == ["      東京  a", "日本   :    #", "x      #    :"]


WORDS = st.lists(st.text(max_size=12), min_size=1, max_size=70)


@given(WORDS, WORDS, st.integers(1, 120), st.booleans())
def test_nothing_is_wider_than_the_terminal_or_moves_its_cursor(
    source: list[str], target: list[str], width: int, colour: bool
) -> None:
    weights = [[((7 * t + 3 * s) % 10) / 10 for s in range(len(source))] for t in range(len(target))]
    lines = [ANSI.sub("", line) for line in heat_map(source, target, weights, width=width, colour=colour)]
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "").endswith(NOTE.replace(" ", ""))
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in "".join(lines))


def test_hostile_words_are_shown_escaped() -> None:
    line = heat_map(["\x1b[2J", "[/foo]"], ["a\u202eb"], [[0.1, 0.9]], width=80, colour=False)
    assert line[0].split() == [r"\x1b[2J", "[/foo]"]
    assert line[1].split()[0] == r"a\u202eb"


def test_empty_sides_and_weights_that_are_not_finite() -> None:
    assert heat_map([], ["a"], [[]], width=80, colour=False) == [NOTE]
    assert heat_map(["a"], [], [], width=80, colour=False) == [NOTE]
    assert heat_map(["a", ""], ["x"], [[math.nan, 1.0]], width=80, colour=False)[:2] == ["   a  _", "x  ?  #"]
    unknown, zero = (heat_map(["a"], ["x"], [[weight]], width=80, colour=True)[1] for weight in (math.nan, 0.0))
    assert unknown.replace("?", " ") == zero


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 1 x 2"):
        heat_map(["a", "b"], ["x"], [[1.0]], width=80, colour=False)
    with pytest.raises(ValueError, match="must be 2 x 1"):
        merge_pieces(["a"], ["x", "y"], [[1.0]])


def test_pieces_become_words() -> None:
    merged = merge_pieces(
        ["▁Mar", "ch", "▁1987"], ["▁M", "är", "z"], [[0.2, 0.2, 0.2], [0.4, 0.2, 0.2], [0.5, 0.1, 0.4]]
    )
    assert (merged.source, merged.target) == (["March", "1987"], ["März"])
    assert merged.weights[0] == pytest.approx([1.6 / 2.4, 0.8 / 2.4])


def test_byte_pieces_show_what_they_spell() -> None:
    pieces = ["▁a", "<0xE2>", "<0x82>", "<0xAC>", "▁", "<0xFF>"]
    assert merge_pieces(pieces, ["▁x"], [[0.0] * 6]) == (["a€", "\ufffd"], ["x"], [[0.0, 0.0]])


PIECES = st.lists(st.sampled_from(["▁a", "b", "▁", "▁ab", "<0x41>"]), min_size=1, max_size=12)


@given(PIECES, PIECES, st.data())
def test_merging_keeps_the_text_and_makes_rows_of_sum_one(
    source: list[str], target: list[str], data: st.DataObject
) -> None:
    row = st.lists(st.floats(0.01, 1), min_size=len(source), max_size=len(source))
    weights = data.draw(st.lists(row, min_size=len(target), max_size=len(target)))
    merged = merge_pieces(source, target, weights)
    for pieces, words in ((source, merged.source), (target, merged.target)):
        assert "".join(words) == "".join(pieces).replace("▁", "").replace("<0x41>", "A")
        assert len(words) == sum(piece.startswith("▁") for piece in pieces[1:]) + 1
    assert len(merged.weights) == len(merged.target)
    assert all(sum(line) == pytest.approx(1) for line in merged.weights)
    assert all(len(line) == len(merged.source) for line in merged.weights)
