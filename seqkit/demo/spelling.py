"""Numbers up to 999,999 in English and German words, for the demonstration corpora."""

# ruff: noqa: SIM905 - lists of words read best as running text

from __future__ import annotations

__all__ = ["english", "english_ordinal", "german", "german_ordinal"]

LARGEST_NUMBER = 999_999

ENGLISH_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ENGLISH_IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
ENGLISH_IRREGULAR |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth"}

GERMAN_SMALL = (
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
).split()
GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()
GERMAN_IRREGULAR = {1: "erst", 3: "dritt", 7: "siebt", 8: "acht"}


def english(number: int) -> str:
    """A whole number from 0 to 999,999 in British English words: `three hundred and forty-two`.

    Raises ValueError outside that range.
    """
    _check_range(number, 0, LARGEST_NUMBER)
    if number < 20:
        return ENGLISH_SMALL[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return ENGLISH_TENS[tens - 2] + (f"-{ENGLISH_SMALL[units]}" if units else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{ENGLISH_SMALL[hundreds]} hundred" + (f" and {english(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    separator = " and " if rest < 100 else " "
    return f"{english(thousands)} thousand" + (f"{separator}{english(rest)}" if rest else "")


def english_ordinal(number: int) -> str:
    """An ordinal from 1 to 99 in words: `twenty-first`. Raises ValueError outside that range."""
    _check_range(number, 1, 99)
    tens, hyphen, last = english(number).rpartition("-")
    if last in ENGLISH_IRREGULAR:
        return tens + hyphen + ENGLISH_IRREGULAR[last]
    return tens + hyphen + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def german(number: int) -> str:
    """A whole number from 0 to 999,999 as one German word: `dreihundertzweiundvierzig`.

    Raises ValueError outside that range.
    """
    _check_range(number, 0, LARGEST_NUMBER)
    thousands, rest = divmod(number, 1000)
    if thousands == 0:
        return _german_below_thousand(rest, leading=True)
    # `eins` at the end of a number is `ein` before `tausend`; one thousand is just `tausend`.
    head = "" if thousands == 1 else _german_below_thousand(thousands, leading=True)
    if thousands % 100 == 1:
        head = head.removesuffix("s")
    return f"{head}tausend" + (_german_below_thousand(rest, leading=False) if rest else "")


def german_ordinal(number: int) -> str:
    """The stem of an ordinal from 1 to 99: `einundzwanzigst`, which needs an ending (`der ...e`, `am ...en`).

    Raises ValueError outside that range.
    """
    _check_range(number, 1, 99)
    return GERMAN_IRREGULAR.get(number) or german(number) + ("t" if number < 20 else "st")


def _german_below_thousand(number: int, *, leading: bool) -> str:
    """`leading`: this part begins the word, where one hundred is `hundert`; after `tausend` it is `einhundert`."""
    if number < 20:
        return GERMAN_SMALL[number]
    if number < 100:
        tens, units = divmod(number, 10)
        word = "ein" if units == 1 else GERMAN_SMALL[units]
        return (f"{word}und" if units else "") + GERMAN_TENS[tens - 2]
    hundreds, rest = divmod(number, 100)
    prefix = "" if leading else "ein"
    head = prefix if hundreds == 1 else GERMAN_SMALL[hundreds]
    return f"{head}hundert" + (_german_below_thousand(rest, leading=False) if rest else "")


def _check_range(number: int, minimum: int, maximum: int) -> None:
    if not minimum <= number <= maximum:
        raise ValueError(f"the number must be {minimum} to {maximum:,}, but is {number:,}")
