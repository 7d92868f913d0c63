"""Numbers in words are right, and no two alike."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from seqkit.demo import spelling

SPELT = [
    (0, "zero", "null"),
    (1, "one", "eins"),
    (2, "two", "zwei"),
    (6, "six", "sechs"),
    (7, "seven", "sieben"),
    (10, "ten", "zehn"),
    (11, "eleven", "elf"),
    (12, "twelve", "zwölf"),
    (13, "thirteen", "dreizehn"),
    (15, "fifteen", "fünfzehn"),
    (16, "sixteen", "sechzehn"),
    (17, "seventeen", "siebzehn"),
    (18, "eighteen", "achtzehn"),
    (19, "nineteen", "neunzehn"),
    (20, "twenty", "zwanzig"),
    (21, "twenty-one", "einundzwanzig"),
    (30, "thirty", "dreißig"),
    (33, "thirty-three", "dreiunddreißig"),
    (40, "forty", "vierzig"),
    (44, "forty-four", "vierundvierzig"),
    (50, "fifty", "fünfzig"),
    (56, "fifty-six", "sechsundfünfzig"),
    (60, "sixty", "sechzig"),
    (66, "sixty-six", "sechsundsechzig"),
    (70, "seventy", "siebzig"),
    (77, "seventy-seven", "siebenundsiebzig"),
    (80, "eighty", "achtzig"),
    (81, "eighty-one", "einundachtzig"),
    (90, "ninety", "neunzig"),
    (99, "ninety-nine", "neunundneunzig"),
    (100, "one hundred", "hundert"),
    (101, "one hundred and one", "hunderteins"),
    (111, "one hundred and eleven", "hundertelf"),
    (117, "one hundred and seventeen", "hundertsiebzehn"),
    (121, "one hundred and twenty-one", "hunderteinundzwanzig"),
    (200, "two hundred", "zweihundert"),
    (201, "two hundred and one", "zweihunderteins"),
    (342, "three hundred and forty-two", "dreihundertzweiundvierzig"),
    (730, "seven hundred and thirty", "siebenhundertdreißig"),
    (999, "nine hundred and ninety-nine", "neunhundertneunundneunzig"),
    (1000, "one thousand", "tausend"),
    (1001, "one thousand and one", "tausendeins"),
    (1012, "one thousand and twelve", "tausendzwölf"),
    (1100, "one thousand one hundred", "tausendeinhundert"),
    (1101, "one thousand one hundred and one", "tausendeinhunderteins"),
    (1987, "one thousand nine hundred and eighty-seven", "tausendneunhundertsiebenundachtzig"),
    (2000, "two thousand", "zweitausend"),
    (2021, "two thousand and twenty-one", "zweitausendeinundzwanzig"),
    (10_000, "ten thousand", "zehntausend"),
    (12_345, "twelve thousand three hundred and forty-five", "zwölftausenddreihundertfünfundvierzig"),
    (17_017, "seventeen thousand and seventeen", "siebzehntausendsiebzehn"),
    (21_000, "twenty-one thousand", "einundzwanzigtausend"),
    (21_001, "twenty-one thousand and one", "einundzwanzigtausendeins"),
    (30_100, "thirty thousand one hundred", "dreißigtausendeinhundert"),
    (99_999, "ninety-nine thousand nine hundred and ninety-nine", "neunundneunzigtausendneunhundertneunundneunzig"),
    (100_000, "one hundred thousand", "hunderttausend"),
    (100_001, "one hundred thousand and one", "hunderttausendeins"),
    (100_100, "one hundred thousand one hundred", "hunderttausendeinhundert"),
    (101_000, "one hundred and one thousand", "hunderteintausend"),
    (101_101, "one hundred and one thousand one hundred and one", "hunderteintausendeinhunderteins"),
    (111_000, "one hundred and eleven thousand", "hundertelftausend"),
    (201_000, "two hundred and one thousand", "zweihunderteintausend"),
    (221_007, "two hundred and twenty-one thousand and seven", "zweihunderteinundzwanzigtausendsieben"),
    (
        999_999,
        "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
        "neunhundertneunundneunzigtausendneunhundertneunundneunzig",
    ),
]

ORDINALS = [
    (1, "first", "erst"),
    (2, "second", "zweit"),
    (3, "third", "dritt"),
    (4, "fourth", "viert"),
    (5, "fifth", "fünft"),
    (6, "sixth", "sechst"),
    (7, "seventh", "siebt"),
    (8, "eighth", "acht"),
    (9, "ninth", "neunt"),
    (10, "tenth", "zehnt"),
    (11, "eleventh", "elft"),
    (12, "twelfth", "zwölft"),
    (13, "thirteenth", "dreizehnt"),
    (17, "seventeenth", "siebzehnt"),
    (19, "nineteenth", "neunzehnt"),
    (20, "twentieth", "zwanzigst"),
    (21, "twenty-first", "einundzwanzigst"),
    (22, "twenty-second", "zweiundzwanzigst"),
    (23, "twenty-third", "dreiundzwanzigst"),
    (28, "twenty-eighth", "achtundzwanzigst"),
    (30, "thirtieth", "dreißigst"),
    (31, "thirty-first", "einunddreißigst"),
]


@pytest.mark.parametrize(("number", "english", "german"), SPELT)
def test_numbers_are_spelt_right(number: int, english: str, german: str) -> None:
    assert (spelling.english(number), spelling.german(number)) == (english, german)


@pytest.mark.parametrize(("number", "english", "german"), ORDINALS)
def test_ordinals_are_spelt_right(number: int, english: str, german: str) -> None:
    assert (spelling.english_ordinal(number), spelling.german_ordinal(number)) == (english, german)


def test_no_two_numbers_are_spelt_alike() -> None:
    for spell, allowed in ((spelling.english, r"[a-z]+([ -][a-z]+)*"), (spelling.german, "[a-zäöüß]+")):
        words = {spell(number) for number in range(100_000)}
        assert len(words) == 100_000
        assert all(re.fullmatch(allowed, word) for word in words)


@pytest.mark.parametrize(
    "spell", [spelling.english, spelling.german, spelling.english_ordinal, spelling.german_ordinal]
)
@pytest.mark.parametrize("number", [-1, 1_000_000])
def test_what_cannot_be_spelt_is_refused(spell: Callable[[int], str], number: int) -> None:
    with pytest.raises(ValueError, match="the number must be"):
        spell(number)
