"""Normalising steps: each alone and any of them together change nothing the second time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.errors import ConfigError
from seqkit.text.normalise import STEPS, clean, normaliser
from seqkit.text.vocabulary import UNKNOWN_MARK


@pytest.mark.parametrize("step", STEPS)
@given(text=st.text())
def test_each_step_is_idempotent(step: str, text: str) -> None:
    once = STEPS[step](text)
    assert STEPS[step](once) == once


@given(steps=st.permutations(list(STEPS)), count=st.integers(0, len(STEPS)), text=st.text())
def test_any_steps_together_are_idempotent(steps: list[str], count: int, text: str) -> None:
    normalise = normaliser(steps[:count])
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("steps", "text"),
    [(["nfc", "lower"], "J\u030c"), (["lower", "nfkc"], "\u210b"), (["spaces", "nfkc"], "a \u00b4")],
)
def test_steps_that_disturb_each_other_are_repeated(steps: list[str], text: str) -> None:
    once = text
    for step in steps:
        once = STEPS[step](once)
    normalise = normaliser(steps)
    assert normalise(text) != once
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        ("nfc", "a\u0308 \ufb01", "\u00e4 \ufb01"),
        ("nfkc", "a\u0308 \ufb01 \uff21", "\u00e4 fi A"),
        ("nfkc", UNKNOWN_MARK, UNKNOWN_MARK),
        ("lower", "ÄB", "äb"),
        ("spaces", "\u00a0 a \t b\u3000", "a b"),
        ("quotes", "\u201ea\u201c \u2013 it\u2019s \u00abb\u00bb", '"a" - it\'s "b"'),
    ],
)
def test_what_each_step_does(step: str, text: str, expected: str) -> None:
    assert normaliser([step])(text) == expected


def test_an_unknown_step_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="lowre") as caught:
        normaliser(["nfc", "lowre"])
    assert caught.value.hint == "did you mean 'lower'?"


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_is_one_line_of_valid_unicode(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert len(cleaned.splitlines()) <= 1
    assert cleaned.encode().decode() == cleaned
    assert cleaned == clean(cleaned)
    if not re.search(r"[\x00-\x1f\x85\u2028\u2029\ud800-\udfff]", text):
        assert cleaned == text
