"""Text from elsewhere is made visible and steers no terminal; ordinary text stays as it is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.system.terminal import escape
from tests.support.display import CONTROLS, NASTY, anything


@given(anything)
def test_visible_text_steers_nothing(text: str) -> None:
    shown = escape(text)
    assert not any(control in shown for control in CONTROLS)
    assert "".join(filter(str.isprintable, text)) in shown or not text.isprintable()
    shown.encode()


def test_ordinary_text_is_left_alone() -> None:
    for text in ("der 5. März", "漢字 हिन्दी नमस्ते", "\u0645\u06cc\u200c\u062e\u0648", "[/foo]", "a\u00a0b"):
        assert escape(text) == text
    assert escape(NASTY).startswith("\\x1b[2J \\x1b]52;c;aGk=\\x07 \\x9b1A \\u202eevil\\u2066 [/foo]")


TURNING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # classes of Unicode's annex 9
HOSTILE = {
    "\x1b[2J": r"\x1b[2J",
    "\x1b]52;c;eA==\x07": r"\x1b]52;c;eA==\x07",
    "\x9b1m": r"\x9b1m",
    "\u202eb": r"\u202eb",
    "\u2066": r"\u2066",
    "\u2028": r"\u2028",
    "\r\n\t": r"\r\n\t",
    "\ud800": r"\ud800",
}


@pytest.mark.parametrize(("hostile", "shown"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_what_moves_a_cursor_or_turns_text_is_made_visible(hostile: str, shown: str) -> None:
    assert escape(f"a{hostile}z") == f"a{shown}z"


@given(st.text(st.characters(exclude_categories=())))
def test_escaped_text_is_harmless(text: str) -> None:
    safe = escape(text)
    safe.encode()
    assert escape(safe) == safe
    for character in safe:
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in TURNING


@pytest.mark.parametrize("text", ["Grüße, „Welt“ — 東京 [/foo]", "می‌خواهم", "👩‍🚀", r"C:\new"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text
