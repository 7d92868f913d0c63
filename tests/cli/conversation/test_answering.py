"""A typed line is a text, a command, or a line of a longer text; a mistake or a fault ends no conversation."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from seqkit.cli.conversation.answering import FENCE, answer
from seqkit.cli.conversation.talk import Conversation
from seqkit.inference.translator import Translator
from tests.support.conversations import Say, best


def test_a_text_may_begin_with_a_colon_and_hold_bytes_that_are_no_text(say: Say) -> None:
    assert "unknown: 1" in say("::quit")[1]
    assert say.session.translations[-1].source == ":quit"
    say("h \udcff a\0")
    assert say.session.translations[-1].source == "h \ufffd a "


def test_several_lines_are_translated_one_by_one_and_hold_no_commands(say: Say, translator: Translator) -> None:
    expected = f"{best(translator, 'h a t')}\n\n{best(translator, ':quit')}\n"
    for begin, end in ((FENCE, FENCE), (":paste", FENCE), (f"{FENCE}h a t", f":quit{FENCE}")):
        inner = ["h a t", "", ":quit"] if end == FENCE else [""]
        if begin == f"{FENCE}h a t":
            inner = [""]
        out, _ = say(begin, *inner, end)
        assert out == expected
        assert say.session.pending is None
    assert say(f"{FENCE}h a t{FENCE}")[0] == best(translator, "h a t") + "\n"
    assert say(FENCE, "", FENCE) == ("", "")
    say(FENCE)
    assert say.session.prompt == "... "
    say("x", FENCE)
    assert say.session.prompt == "word> "


def test_even_a_fault_of_ours_does_not_end_it(say: Say, translator: Translator) -> None:
    with patch.object(translator, "translate", side_effect=RuntimeError("out of\nluck")):
        out, err = say("h a t")
    assert out == ""
    assert err.splitlines()[0] == "this is a fault of seqkit: RuntimeError: out of"
    assert say("h a t")[0]


def test_it_ends_when_it_is_told_to(session: Conversation) -> None:
    with pytest.raises(EOFError):
        answer(session, ":quit")
