"""A conversation with a translator: lines become translations, words behind a colon are commands.

    en> three hundred and forty-two
    dreihundertzweiundvierzig
    score -0.04 per token   p 0.71   9+6 tokens   38 ms   unknown: none
    en> :beam 4

The bare translation goes to stdout, so that it can be copied; everything else is dim, and goes to stderr.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from seqkit.cli.conversation.showing import aside, changed_words, coloured, figures, joined, pieces
from seqkit.cli.words import search_of
from seqkit.errors import ConfigError, ModelError
from seqkit.inference.heat_map import heat_map
from seqkit.settings import Recipe, Search
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.glossary import Glossary
    from seqkit.inference.translation import Translation
    from seqkit.inference.translator import Translator

__all__ = ["Conversation"]


@dataclass
class Conversation:
    """What a conversation has been told so far, and what comes of it."""

    translator: Translator
    search: Search
    device: str = "auto"  # for models that come later
    changed: dict[str, str] = field(default_factory=dict)  # search settings that are not the recipe's, as typed, by key
    switches: set[str] = field(default_factory=set)  # which of align, tokens, time and protect are on
    layer: int | None = None  # of the attention that is drawn; None: the last but one
    head: int | None = None  # None: the mean of all
    prefix: str = ""
    terms: tuple[str, Glossary] | None = None  # a file and what is in it
    asked: tuple[str, ...] = ()  # the lines of the last input
    found: list[Translation] = field(default_factory=list)  # all translations, in their order
    pending: list[str] | None = None  # what has been pasted, until it is complete

    @property
    def prompt(self) -> str:
        """What stands before the line that is typed next."""
        return "... " if self.pending is not None else f"{escape(self.translator.data.source)}> "

    def translate(self, lines: Sequence[str]) -> None:
        """Translate lines one after the other; a blank one stays blank. Raises what the translator raises."""
        self.asked = tuple(lines)
        for line in lines:
            if line.strip():
                self._translate(line)
            else:
                click.echo("")

    def change(self, *settings: str) -> None:
        """Set search settings, `search.beam=4`, all or none of them. Raises ConfigError when they cannot be."""
        self._settle(self.changed | {setting.partition("=")[0].strip(): setting for setting in settings})

    def restore(self, key: str) -> None:
        """Let a search setting be what it is in the recipe. Raises ConfigError when the others forbid it."""
        self._settle({other: setting for other, setting in self.changed.items() if other != key})

    def _settle(self, changed: dict[str, str]) -> None:
        self.search = _search(self.translator.recipe, list(changed.values()))
        self.changed = changed

    def move(self, translator: Translator) -> None:
        """Go on with another model and its search settings, but for those changed here. Raises ConfigError."""
        self.search = _search(translator.recipe, list(self.changed.values()))
        self.translator = translator
        self.layer = self.head = None  # another model has others

    def _translate(self, line: str) -> None:
        from seqkit.inference.translation import Line

        began = time.perf_counter()
        [found] = self.translator.translate(
            [Line(line, self.prefix)],
            search=self.search,
            glossary=self.terms[1] if self.terms else None,
            protect="protect" in self.switches,
        )
        seconds = time.perf_counter() - began
        self.found.append(found)
        click.echo(escape(found.text))
        aside(figures(found, seconds))
        if "time" in self.switches:
            self._time(found, seconds)
        for rank, (text, score) in enumerate(found.alternatives, start=2):
            aside(f"{rank:3}  {score:.2f}  ", *joined(changed_words(found.text, text)))
        if "tokens" in self.switches:
            codecs = self.translator.loaded.codecs
            aside("source  ", *joined(pieces(codecs.source, found.source_ids)))
            aside("target  ", *joined(pieces(codecs.target, found.target_ids)))
        if "align" in self.switches:
            self._draw(found)

    def _time(self, found: Translation, seconds: float) -> None:
        """Say where the time went. Text and tokens are turned into each other once more: it takes next to no time."""
        codecs = self.translator.loaded.codecs
        began = time.perf_counter()
        codecs.source.encode(found.source)
        middle = time.perf_counter()
        codecs.target.decode(found.target_ids)
        tokenising, detokenising = middle - began, time.perf_counter() - middle
        searching = max(seconds - tokenising - detokenising, 1e-9)
        parts = (("tokenise", tokenising), ("search", searching), ("detokenise", detokenising))
        shown = "   ".join(f"{name} {1000 * share:.2f} ms" for name, share in parts)
        aside(f"{shown}   {len(found.target_ids) / searching:.0f} tokens/s")

    def _draw(self, found: Translation) -> None:
        try:
            source, target, weights = self.translator.align(found.source, found, layer=self.layer, head=self.head)
        except ModelError:
            self.switches.discard("align")  # it would be said again after each translation
            raise
        width, styled = shutil.get_terminal_size().columns, coloured(sys.stderr)
        for row in heat_map(source, target, weights, width=width, colour=styled):
            click.echo(row, err=True, color=styled)


def _search(recipe: Recipe, settings: Sequence[str]) -> Search:
    try:
        return search_of(recipe, settings)
    except ConfigError as error:
        raise ConfigError(error.what.replace(" (command line)", ""), error.hint) from None
