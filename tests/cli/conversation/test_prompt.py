"""A conversation at a terminal: Ctrl-C, Ctrl-D, a private history, and every command as a person types it."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from seqkit.cli.conversation import prompt as interactive
from seqkit.cli.conversation.answering import FENCE
from seqkit.cli.conversation.talk import Conversation
from seqkit.inference.translator import Translator
from tests.support.conversations import Captured
from tests.support.terminals import Terminal

SEQKIT = [sys.executable, "-m", "seqkit"]


class Typist:
    """Types lines, or raises what the keys stand for."""

    def __init__(self, *typed: str | type[BaseException]) -> None:
        self.typed, self.prompts = list(typed), list[str]()

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        typed = self.typed.pop(0)
        if isinstance(typed, str):
            return typed
        raise typed


def converse(session: Conversation, *typed: str | type[BaseException]) -> Typist:
    """Talk until the session ends; there must be nothing left to type."""
    typist = Typist(*typed)
    while interactive._exchange(session, typist):
        pass
    assert typist.typed == []
    return typist


def test_control_c_cancels_and_never_leaves(session: Conversation, capsys: Captured, translator: Translator) -> None:
    with patch.object(translator, "translate", side_effect=KeyboardInterrupt):
        typist = converse(session, KeyboardInterrupt, "h a t", FENCE, "x", KeyboardInterrupt, ":quit")
    assert typist.prompts == ["word> ", "word> ", "word> ", "... ", "... ", "word> "]
    assert capsys.readouterr() == ("", "\ncancelled\n\n")
    assert session.translations == []


def test_control_d_ends_what_is_pasted_and_then_leaves(session: Conversation, capsys: Captured) -> None:
    converse(session, ":paste", "h a t", "o n e", EOFError, "z\n\nh a t", EOFError)
    assert [found.source for found in session.translations] == ["h a t", "o n e", "z", "h a t"]
    converse(session, "z\n:quit\nh a t")
    assert [found.source for found in session.translations][4:] == ["z"]


def test_history_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(interactive, "REMEMBERED", 3)
    path = interactive._history_file()
    assert path is not None
    path.write_text("".join(f"\n# then\n+line {number}\n" for number in range(9)), encoding="utf-8")
    path.chmod(0o644)
    assert interactive._history_file() == path
    assert [row for row in path.read_text("utf-8").splitlines() if row[:1] == "+"] == ["+line 6", "+line 7", "+line 8"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# At a terminal. The program asks first and waits then: a signal before it waits would come late.
WAIT = 0.2


def conversation(kind: str, trained: Path, folder: Path) -> Terminal:
    environment = {**os.environ, "TERM": kind, "XDG_STATE_HOME": str(folder), "PROMPT_TOOLKIT_NO_CPR": "1"}
    return Terminal([*SEQKIT, "translate", str(trained), "--beam", "2"], environment)


@pytest.mark.slow
def test_every_command_at_a_plain_terminal(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("h\tz\n", encoding="utf-8")
    with conversation("dumb", trained, tmp_path) as terminal:
        shown = terminal.until("word>")
        assert shown.index("loading") < shown.index("word-drow  transformer")
        time.sleep(WAIT)
        for typed, *answers in (
            ("\x03",),  # Ctrl-C
            ("\r",),
            ("h a t\r", "unknown: none"),
            (":bem 3\r", "did you mean :beam?"),
            (":tokens on\r",),
            (":align on\r",),
            (":n 2\r",),
            (":time on\r",),
            (f":terms {tmp_path}/terms.tsv\r",),
            (":protect on\r",),
            (":prefix z\r",),
            (":again\r", "z", "tokenise", "  2  ", "source", "target", "not an explanation"),
            (":prefix\r",),
            (":terms off\r",),
            (":sample 0.5\r",),
            (":seed 3\r",),
            (":again\r", "tokens/s"),
            (":sample off\r",),
            (":beam 3\r",),
            (":lenpen 0.6\r",),
            (":set\r", "length_reward = 0.6"),
            (":ref t a h\r", "chrF"),
            (":score h a t ||| t a h\r", "worst: "),
            (":help time\r", "say where the time went"),
            (f":model {trained}x\r", "is not a model folder"),
            (f":save {tmp_path}/said.tsv\r", "3 translations are in"),
        ):
            terminal.type(typed)
            for answer in (*answers, "word>"):
                terminal.until(answer)
        for typed, prompt in (('"""\r', "... "), ('o n e"""\r', "word>"), (":paste\r", "... "), ("\x04", "word>")):
            terminal.type(typed)
            terminal.until(prompt)
        cancel(terminal)
        terminal.until("word>")
        time.sleep(WAIT)
        terminal.type(":quit\r")
        assert terminal.process.wait(100) == 0
    assert (tmp_path / "said.tsv").read_text("utf-8").startswith("h a t\t")
    assert not (tmp_path / "seqkit").exists()


@pytest.mark.slow
def test_a_terminal_that_can_has_tab_and_history(trained: Path, tmp_path: Path) -> None:
    with conversation("xterm", trained, tmp_path) as terminal:
        terminal.until("word>")
        for typed, *answers in (
            ("h a t\r", "unknown: none"),
            (":tok\t", "ens"),
            (" on\r",),
            ("h a t\r", "source", "target"),
            (":bem 3\r", "did you mean :beam?"),
        ):
            terminal.type(typed)
            for answer in answers:
                terminal.until(answer)
        cancel(terminal)
        # What is drawn does not tell whether the line is empty yet: only then Ctrl-D leaves.
        while terminal.process.poll() is None:
            terminal.type("\x04")
            terminal.shows("gone", WAIT)
        assert terminal.process.returncode == 0
    history = tmp_path / "seqkit" / "translate_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "+h a t" in history.read_text("utf-8")


def cancel(terminal: Terminal) -> None:
    """Begin a translation that would take hours, and stop it."""
    for typed in ("maximum_length=1000000", "maximum_ratio=1000000", "minimum_length=900000"):
        terminal.type(f":set {typed}\r")
        time.sleep(WAIT)
    # Nothing tells when the search has begun: if the signal came before, it is done again.
    for _ in range(20):
        terminal.type("h a t\r")
        time.sleep(2 * WAIT)
        terminal.type("\x03")
        if terminal.shows("cancelled", 2):
            break
    terminal.until("cancelled")
