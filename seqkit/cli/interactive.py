"""A conversation with a translator: lines become translations, words behind a colon are commands.

    en> three hundred and forty-two
    dreihundertzweiundvierzig
    score -0.04 per token   p 0.71   9+6 tokens   38 ms   unknown: none
    en> :beam 4

The bare translation goes to stdout, so that it can be copied; everything else is dim, and goes to stderr.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import msgspec

from seqkit.cli.translate import search_of
from seqkit.errors import ConfigError, SeqkitError, closest
from seqkit.report import escape, heat_map
from seqkit.settings import Search

if TYPE_CHECKING:
    from seqkit.translator import Translation, Translator

__all__ = ["COMMANDS", "Session", "converse"]

REMEMBERED = 1000  # lines of history


def converse(model: Path, *, device: str, overrides: Sequence[str], history: bool) -> None:
    """Talk until the user leaves, by :quit or Ctrl-D; Ctrl-C only cancels what is going on.

    Raises what `Translator.load` and `search_of` raise.
    """
    aside(f"loading {escape(str(model))} ...")

    from seqkit.translator import Translator

    translator = Translator.load(model, device=device)
    session = Session(translator, search_of(translator.recipe, overrides))
    aside(f"{translator.description}  (:help)")
    read = reader(f"{escape(translator.data.source)}> ", history=history)
    while True:
        try:
            # What is pasted may be several lines.
            for line in read().split("\n"):
                session.answer(line)
        except KeyboardInterrupt:
            aside("")
        except EOFError:
            return


@dataclass
class Session:
    """What a conversation has been told so far."""

    translator: Translator
    search: Search
    align: bool = False

    def answer(self, line: str) -> None:
        """Translate a line, or do what it commands; what goes wrong is told, never raised. EOFError means: leave."""
        try:
            if line.startswith(":") and not line.startswith("::"):
                name, _, words = line[1:].strip().partition(" ")
                command(name).run(self, words.strip())
            elif line.strip():
                self._translate(line.removeprefix(":"))
        except SeqkitError as error:
            aside(str(error))

    def change(self, setting: str) -> None:
        """Set one search setting, `search.beam=4`. Raises ConfigError when it cannot be."""
        recipe = msgspec.structs.replace(self.translator.recipe, search=self.search)
        self.search = search_of(recipe, [setting])

    def _translate(self, line: str) -> None:
        began = time.monotonic()
        [found] = self.translator.translate([line], search=self.search)
        milliseconds = 1000 * (time.monotonic() - began)
        click.echo(escape(found.text))
        aside(_figures(found, milliseconds))
        for rank, (text, score) in enumerate(found.alternatives, start=2):
            aside(f"{rank:3}  {score:.2f}  {escape(text)}")
        if self.align:
            source, target, weights = self.translator.align(line, found)
            width = shutil.get_terminal_size().columns
            for row in heat_map(source, target, weights, width=width, colour=_coloured()):
                click.echo(row, err=True, color=_coloured())


class Command(NamedTuple):
    """One row of the table of commands."""

    run: Callable[[Session, str], None]  # the words after its name
    usage: str
    purpose: str


def command(name: str) -> Command:
    """The command of that name. Raises ConfigError, naming the nearest, when there is none."""
    if name not in COMMANDS:
        near = closest(name, COMMANDS)
        hint = f"did you mean :{near}?" if near else ":help lists the commands; ::text translates a text with a colon"
        raise ConfigError(f"unknown command :{escape(name)}", hint)
    return COMMANDS[name]


def _help(_: Session, words: str) -> None:
    rows = [command(words.removeprefix(":"))] if words else list(COMMANDS.values())
    width = max(len(row.usage) for row in rows)
    for row in rows:
        aside(f"{row.usage:{width}}  {row.purpose}")


def _alternatives(session: Session, words: str) -> None:
    session.change(f"search.nbest={words or 1}")


def _beam(session: Session, words: str) -> None:
    session.change(f"search.beam={words or 1}")


def _align(session: Session, words: str) -> None:
    if words not in ("on", "off", ""):
        raise ConfigError(f":align is on or off, not {escape(words)}")
    session.align = words == "on" if words else not session.align


def _quit(_: Session, __: str) -> None:
    raise EOFError


COMMANDS = {
    "help": Command(_help, ":help [COMMAND]", "say what the commands do"),
    "n": Command(_alternatives, ":n N", "show the N best translations; at most the beam"),
    "beam": Command(_beam, ":beam N", "look at N hypotheses at each step; 1 is greedy"),
    "align": Command(_align, ":align on|off", "draw which source words each word attended to"),
    "quit": Command(_quit, ":quit", "leave; so does Ctrl-D"),
}


def aside(text: str) -> None:
    """Say something that is no translation."""
    click.secho(text, err=True, dim=True, color=_coloured())


def reader(prompt: str, *, history: bool) -> Callable[[], str]:
    """How a line is asked for: with editing and history where the terminal is up to it, else plainly.

    The function that comes back raises EOFError for Ctrl-D and KeyboardInterrupt for Ctrl-C.
    """
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return lambda: input(prompt)
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory
    except ImportError:
        return lambda: input(prompt)
    path = _history_file() if history else None
    session: PromptSession[str] = PromptSession(history=FileHistory(path) if path else None)
    return lambda: session.prompt(prompt)


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


def _figures(found: Translation, milliseconds: float) -> str:
    """`score -0.04 per token   p 0.71   12+9 tokens   38 ms   unknown: none`."""
    generated = len(found.target_ids) + (not found.truncated)
    parts = [
        f"score {found.log_prob / max(generated, 1):.2f} per token",
        f"p {math.exp(found.log_prob):.2g}",
        f"{len(found.source_ids)}+{len(found.target_ids)} tokens",
        f"{milliseconds:.0f} ms",
        f"unknown: {found.unknown or 'none'}",
    ]
    if found.cut:
        parts.append("the input was too long: its end is left out")
    if found.truncated:
        parts.append("the output reached the length limit")
    return "   ".join(parts)


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"
