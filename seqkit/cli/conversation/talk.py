"""The state of a conversation with a translator, and the printing of its translations.

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

from seqkit.cli.conversation.showing import changed_words, coloured, figures, print_note, spaced, token_spans
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
    """A translator, the settings of the user, and the translations so far."""

    translator: Translator
    search: Search
    device: str = "auto"  # of models that are loaded later
    changed: dict[str, str] = field(default_factory=dict)  # search settings that replace the recipe's, as typed, by key
    switches: set[str] = field(default_factory=set)  # which of align, tokens, time and protect are on
    layer: int | None = None  # of the attention that is drawn; None: the last but one
    head: int | None = None  # None: the mean of all
    prefix: str = ""
    terms: tuple[str, Glossary] | None = None  # a file and what is in it
    last_input: tuple[str, ...] = ()  # its lines
    translations: list[Translation] = field(default_factory=list)  # all of them, in their order
    pending: list[str] | None = None  # lines of an input of several, until it is complete

    @property
    def prompt(self) -> str:
        """The prompt for the next line."""
        return "... " if self.pending is not None else f"{escape(self.translator.data.source)}> "

    def translate(self, lines: Sequence[str]) -> None:
        """Translate lines one after the other; a blank one stays blank. Raises the errors of the translator."""
        self.last_input = tuple(lines)
        for line in lines:
            if line.strip():
                self._translate(line)
            else:
                click.echo("")

    def change_settings(self, *settings: str) -> None:
        """Set search settings, `search.beam=4`: all of them, or none and a ConfigError when one is wrong."""
        self._apply(self.changed | {setting.partition("=")[0].strip(): setting for setting in settings})

    def reset_setting(self, key: str) -> None:
        """Take a search setting from the recipe again. Raises ConfigError when that does not fit the others."""
        self._apply({other: setting for other, setting in self.changed.items() if other != key})

    def _apply(self, changed: dict[str, str]) -> None:
        self.search = _search(self.translator.recipe, list(changed.values()))
        self.changed = changed

    def change_model(self, translator: Translator) -> None:
        """Go on with another model and its search settings, apart from those changed here. Raises ConfigError."""
        self.search = _search(translator.recipe, list(self.changed.values()))
        self.translator = translator
        self.layer = self.head = None  # the other model may not have them

    def _translate(self, line: str) -> None:
        from seqkit.inference.translation import Line

        began = time.perf_counter()
        [translation] = self.translator.translate(
            [Line(line, self.prefix)],
            search=self.search,
            glossary=self.terms[1] if self.terms else None,
            protect="protect" in self.switches,
        )
        seconds = time.perf_counter() - began
        self.translations.append(translation)
        click.echo(escape(translation.text))
        print_note(figures(translation, seconds))
        if "time" in self.switches:
            self._print_times(translation, seconds)
        for rank, (text, score) in enumerate(translation.alternatives, start=2):
            print_note(f"{rank:3}  {score:.2f}  ", *spaced(changed_words(translation.text, text)))
        if "tokens" in self.switches:
            codecs = self.translator.loaded.codecs
            print_note("source  ", *spaced(token_spans(codecs.source, translation.source_ids)))
            print_note("target  ", *spaced(token_spans(codecs.target, translation.target_ids)))
        if "align" in self.switches:
            self._print_alignment(translation)

    def _print_times(self, translation: Translation, seconds: float) -> None:
        """Print how long each stage took; tokenising and detokenising, which are fast, are repeated and timed."""
        codecs = self.translator.loaded.codecs
        began = time.perf_counter()
        codecs.source.encode(translation.source)
        middle = time.perf_counter()
        codecs.target.decode(translation.target_ids)
        tokenising, detokenising = middle - began, time.perf_counter() - middle
        searching = max(seconds - tokenising - detokenising, 1e-9)
        stages = (("tokenise", tokenising), ("search", searching), ("detokenise", detokenising))
        times = "   ".join(f"{name} {1000 * duration:.2f} ms" for name, duration in stages)
        print_note(f"{times}   {len(translation.target_ids) / searching:.0f} tokens/s")

    def _print_alignment(self, translation: Translation) -> None:
        try:
            source, target, weights = self.translator.align(
                translation.source, translation, layer=self.layer, head=self.head
            )
        except ModelError:
            self.switches.discard("align")  # else the error would follow each translation
            raise
        width, styled = shutil.get_terminal_size().columns, coloured(sys.stderr)
        for row in heat_map(source, target, weights, width=width, colour=styled):
            click.echo(row, err=True, color=styled)


def _search(recipe: Recipe, settings: Sequence[str]) -> Search:
    try:
        return search_of(recipe, settings)
    except ConfigError as error:
        raise ConfigError(error.what.replace(" (command line)", ""), error.hint) from None
