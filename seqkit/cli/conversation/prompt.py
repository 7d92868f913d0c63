"""A conversation at a terminal: the prompt with editing, history and completion, and the loop around it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqkit.cli.conversation.answering import FENCE, answer
from seqkit.cli.conversation.commands import complete
from seqkit.cli.conversation.showing import print_note
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.words import search_of

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

__all__ = ["converse"]

REMEMBERED = 1000  # lines of history


def converse(*models: Path, device: str, overrides: Sequence[str], history: bool) -> None:
    """Read and answer lines until :quit or Ctrl-D; Ctrl-C cancels only what is running.

    Raises the errors of `Translator.load` and `search_of`.
    """
    print_note(f"loading {' '.join(map(str, models))} ...")

    from seqkit.inference.translator import Translator

    translator = Translator.load(*models, device=device)
    changed = {word.partition("=")[0]: word for word in overrides}
    conversation = Conversation(translator, search_of(translator.recipe, overrides), device, changed)
    print_note(f"{translator.description}  (:help)")
    read = reader(history=history)
    while _exchange(conversation, read):
        pass


def _exchange(conversation: Conversation, read: Callable[[str], str]) -> bool:
    """Read a line and answer it; False when the conversation ends."""
    note = ""  # Ctrl-C in a prompt only ends its line
    try:
        try:
            typed = read(conversation.prompt)
        except EOFError:
            if conversation.pending is None:
                return False
            typed = FENCE  # the end of a text of several lines
        note = "cancelled"
        # A paste may hold several lines.
        for line in typed.split("\n"):
            answer(conversation, line)
    except EOFError:
        return False
    except KeyboardInterrupt:
        conversation.pending = None
        with contextlib.suppress(KeyboardInterrupt):
            print_note(note)
    return True


def reader(*, history: bool) -> Callable[[str], str]:
    """A function that reads a line after a prompt: with editing, history and completion where the terminal has them.

    It raises EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C.
    """
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return input
    try:
        editor = _editor(_history_file() if history else None)
    except ImportError:
        return input
    return lambda prompt: editor.prompt(prompt)


def _editor(history: Path | None) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory

    class Words(Completer):
        """The completions of `complete`."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            replaced, words = complete(document.text_before_cursor)
            yield from (Completion(word, start_position=-replaced) for word in words)

    return PromptSession(
        history=FileHistory(history) if history else None, completer=Words(), complete_while_typing=False
    )


def _history_file() -> Path | None:
    """The file of the history, readable for its owner alone and cut to `REMEMBERED` lines; None where it cannot be."""
    from platformdirs import user_state_path
    from prompt_toolkit.history import FileHistory

    with contextlib.suppress(OSError):
        path = user_state_path("seqkit", appauthor=False, ensure_exists=True) / "translate_history"
        path.touch(mode=0o600)
        path.chmod(0o600)
        newest = list(FileHistory(path).load_history_strings())
        if len(newest) > REMEMBERED:
            os.truncate(path, 0)
            for line in reversed(newest[:REMEMBERED]):
                FileHistory(path).store_string(line)
        return path
    return None
