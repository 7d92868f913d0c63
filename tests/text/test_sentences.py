"""Long lines in parts: nothing is lost but space, no part is too long, and cuts fall where they harm least."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from seqkit.text.sentences import split_line

WORDS = st.lists(st.text("abc.!?。 \t", min_size=1, max_size=12), max_size=12).map(" ".join)


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(WORDS, st.integers(1, 9))
def test_nothing_is_lost_and_no_part_is_too_long(text: str, limit: int) -> None:
    found = split_line(text, size=lambda part: len(squeezed(part)), limit=limit)
    assert squeezed("".join(found)) == squeezed(text)
    assert all(len(squeezed(part)) <= limit for part in found)
    if len(found) > 1:
        assert all(part == part.strip() != "" for part in found)


@given(WORDS, st.integers(1, 20))
def test_words_are_kept_whole_where_they_fit(text: str, limit: int) -> None:
    text = text.replace("。", "")
    words = text.split()
    found = split_line(text, size=lambda part: len(part.split()), limit=limit)
    assert " ".join(found).split() == words


def test_sentences_are_kept_whole_where_they_fit() -> None:
    text = 'One two three. "Four five!" Six? Seven eight nine ten eleven. 一二三。四五。'

    def size(part: str) -> int:
        return len(part.split())

    assert split_line(text, size=size, limit=100) == [text]
    assert split_line(text, size=size, limit=6) == [
        'One two three. "Four five!" Six?',
        "Seven eight nine ten eleven. 一二三。四五。",
    ]
    assert split_line(text, size=size, limit=3) == [
        "One two three.",
        '"Four five!" Six?',
        "Seven eight nine",
        "ten eleven. 一二三。四五。",
    ]
    assert split_line("一二三。四五。六", size=len, limit=4) == ["一二三。", "四五。六"]


def test_what_fits_is_left_as_it_is() -> None:
    for text in ("", "  ", " a  b ", "a\tb. c"):
        assert split_line(text, size=len, limit=20) == [text]
