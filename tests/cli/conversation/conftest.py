"""A conversation with the small trained translator."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.cli.conversation.talk import Conversation
from seqkit.inference.translator import Translator
from tests.support.conversations import Captured, Say


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return Translator.load(trained, device="cpu")


@pytest.fixture
def session(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> Conversation:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    return Conversation(translator, translator.recipe.search, device="cpu")


@pytest.fixture
def say(session: Conversation, capsys: Captured) -> Say:
    return Say(session, capsys)
