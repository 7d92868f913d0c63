"""A conversation at a terminal: how lines are asked for, remembered and completed. What they do is in `conversation`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqkit.cli.conversation.answering import FENCE, answer
from seqkit.cli.conversation.commands import complete
from seqkit.cli.conversation.showing import aside
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.words import search_of

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

__all__ = ["converse"]

REMEMBERED = 1000  # lines of history


def converse(*models: Path, device: str, overrides: Sequence[str], history: bool) -> None:
    """Talk until the user leaves, by :quit or Ctrl-D; Ctrl-C only cancels what is going on.

    Raises what `Translator.load` and `search_of` raise.
    """
    aside(f"loading {' '.join(map(str, models))} ...")

    from seqkit.inference.translator import Translator

    translator = Translator.load(*models, device=device)
    changed = {word.partition("=")[0]: word for word in overrides}
    conversation = Conversation(translator, search_of(translator.recipe, overrides), device, changed)
    aside(f"{translator.description}  (:help)")
    read = reader(history=history)
    while _exchange(conversation, read):
        pass


def _exchange(conversation: Conversation, read: Callable[[str], str]) -> bool:
    """Ask for a line, and answer it. False when the user wants to leave."""
    note = ""  # the line on which Ctrl-C was typed stays behind
    try:
        try:
            typed = read(conversation.prompt)
        except EOFError:
            if conversation.pending is None:
                return False
            typed = FENCE  # what is being pasted ends here
        note = "cancelled"
        # What is pasted may be several lines.
        for line in typed.split("\n"):
            answer(conversation, line)
    except EOFError:
        return False
    except KeyboardInterrupt:
        conversation.pending = None
        with contextlib.suppress(KeyboardInterrupt):
            aside(note)
    return True


def reader(*, history: bool) -> Callable[[str], str]:
    """How a line is asked for: with editing, history and Tab where the terminal is up to it, else plainly.

    The function that comes back takes a prompt, and raises EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C.
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
        """What `complete` says."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            replaced, found = complete(document.text_before_cursor)
            yield from (Completion(word, start_position=-replaced) for word in found)

    return PromptSession(
        history=FileHistory(history) if history else None, completer=Words(), complete_while_typing=False
    )


def _history_file() -> Path | None:
    """Where lines are remembered, made so that only its owner reads it, and shortened; None where none can be kept."""
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
