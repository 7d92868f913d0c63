"""A conversation in a test: lines go in, and what comes back is seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from seqkit.cli.conversation.answering import answer
from seqkit.cli.conversation.talk import Conversation
from seqkit.inference.translation import Line, Translation
from seqkit.inference.translator import Translator

Captured = pytest.CaptureFixture[str]


HOSTILE = "a\x1b[2J \x9b31m\u202eb\x07 [/foo] [link=x]y[/link]"


class Say:
    """Gives lines to a session, and what it writes back."""

    def __init__(self, session: Conversation, capture: Captured) -> None:
        self.session, self.capture = session, capture

    def __call__(self, *lines: str) -> tuple[str, str]:
        self.capture.readouterr()
        for line in lines:
            answer(self.session, line)
        out, err = self.capture.readouterr()
        return out, err


def best(translator: Translator, text: str, **settings: Any) -> str:
    """The text that the translator gives for one line."""
    [found] = translator.translate([text], **settings)
    return found.text


class Changed(Translator):
    """A translator whose translations are changed before anybody sees them."""

    def __init__(self, translator: Translator, **changes: Any) -> None:
        super().__init__(translator.loaded, device=translator.device)
        self.unchanged, self.changes = translator, changes

    def translate(self, lines: Iterable[str | Line], **settings: Any) -> Iterator[Translation]:
        for translation in self.unchanged.translate(lines, **settings):
            yield replace(translation, **self.changes)
