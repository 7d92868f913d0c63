"""What a conversation prints besides translations: marked parts, edits of words, no control characters."""

from __future__ import annotations

import sys

import pytest

from seqkit.cli.conversation import showing
from seqkit.cli.conversation.showing import Span
from seqkit.settings import SentencePiece, Words
from seqkit.text.codec import Codec
from tests.support.conversations import Captured


def test_bytes_are_marked_where_a_piece_is_missing() -> None:
    lines = ["the hat is red and the cat is black", "a hat, a cat, and a bat"] * 9
    codec = Codec.learn(lines, SentencePiece(size=300, byte_fallback=True))
    ids = codec.encode("the ü hat")
    found = list(showing.token_spans(codec, ids))
    assert [part.text for part in found if part.style == "marked"] == ["<0xC3>", "<0xBC>"]
    assert [part.text for part in found] == codec.tokens(ids)
    words = Codec.learn(["<0xC3> a"], Words(split="spaces"))  # here it is a word
    assert [part.style for part in showing.token_spans(words, words.encode("<0xC3> b"))] == ["dim", "marked"]


def test_marks_are_underlined_or_in_brackets(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    showing.print_note("a ", Span("b\x1b[2J", "marked"), Span("c", "plain"))
    assert capsys.readouterr().err == "a [b\\x1b[2J]c\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    showing.print_note("a ", Span("b\x1b[2J", "marked"), Span("c", "plain"))
    assert capsys.readouterr().err == "\x1b[2ma \x1b[0m\x1b[1m\x1b[4mb\\x1b[2J\x1b[0mc\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not showing.coloured(sys.stderr)


def test_words_that_differ_are_marked() -> None:
    other = list(showing.changed_words("the red hat is here", "the blue hat was there"))
    assert [part.text for part in other] == ["the", "blue", "hat", "was there"]
    assert [part.style for part in other] == ["dim", "marked", "dim", "marked"]
    diff = " ".join(part.text for part in showing.word_diff("the red hat here", "the blue hat"))
    assert diff == "the [-red-] {+blue+} hat [-here-]"
    assert list(showing.word_diff("", "")) == []
