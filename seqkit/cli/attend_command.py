"""`seqkit attend`: the attention of a model to the source, for each word of a translation."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seqkit.cli import file_arguments as files
from seqkit.cli import plot
from seqkit.cli.conversation.showing import coloured
from seqkit.cli.main import suggest_next
from seqkit.cli.streams import warn
from seqkit.cli.words import runs_of, search_of
from seqkit.errors import ConfigError, DataError
from seqkit.files import decode, lines
from seqkit.inference.heat_map import NOTE, heat_map
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqkit.inference.heat_map import Alignment
    from seqkit.inference.translator import Translator
    from seqkit.settings import Search

__all__ = ["command"]

LONGEST = 30  # characters of a word in a figure
INCHES = 0.4  # of a figure for each word, at most MOST_INCHES in all
MOST_INCHES = 30.0

save_to = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=files.Command)
@click.argument("model")
@click.argument("text", default="-")
@click.option("--target", metavar="TEXT", help="Look at this translation in place of the model's own.")
@click.option("--layer", type=int, help="Of a Transformer, counted from 1.  [default: the last but one]")
@click.option("--head", type=int, help="One head of the layer, counted from 1.  [default: the mean of all]")
@click.option("--png", type=save_to, help="Draw a picture; needs matplotlib.")
@click.option("--svg", type=save_to, help="The same as SVG.")
@click.option("--npz", type=save_to, help="Write the numbers: weights, source, target (numpy).")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@files.settings
def command(
    model: str,
    text: str,
    target: str | None,
    layer: int | None,
    head: int | None,
    png: Path | None,
    svg: Path | None,
    npz: Path | None,
    overwrite: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Show which source words a model looked at while it wrote each word of a translation.

    \b
    seqkit attend runs/en-de "the 5th of March"
    seqkit attend runs/en-de "the 5th of March" --target "der 5. März" --png march.png
    seqkit attend runs/en-de < test.en

    Rows are target words, columns source words; the weights of a row sum to 1. Without TEXT, or with -, lines are
    read from standard input.
    """
    outputs = {form: path for form, path in (("png", png), ("svg", svg), ("npz", npz)) if path is not None}
    for path in outputs.values():
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists", "--overwrite replaces it")
    if png or svg:
        plot.empty(1, 1)  # where nothing can be drawn, the error comes before the work
    texts = list(_single(text, target, outputs)) if outputs or target is not None else _texts(text)

    from seqkit.inference.translator import Translator

    translator = Translator.load(*runs_of([model]), device=device)
    search = search_of(translator.recipe, overrides)
    for index, line in enumerate(texts):
        if index:
            click.echo("")
        alignment = _alignment(translator, line, target, search, layer=layer, head=head)
        for row in heat_map(*alignment, width=shutil.get_terminal_size().columns, colour=coloured(sys.stdout)):
            click.echo(row)
        sys.stdout.flush()  # for a program that waits for each answer
        if outputs:
            _write(alignment, outputs)
    if text != "-" and not outputs:
        suggest_next(escape(f"seqkit attend {shlex.quote(model)} {shlex.quote(text)} --png attention.png"))


def _texts(word: str) -> Iterator[str]:
    """The text of the command line, or the lines of standard input."""
    if word != "-":
        yield decode(os.fsencode(word))[0]
        return
    for line in lines(sys.stdin.buffer, "standard input"):
        yield decode(line)[0]


def _single(word: str, target: str | None, outputs: dict[str, Path]) -> Iterator[str]:
    """The one text that a file or a given translation is for. Raises ConfigError for another number of lines."""
    texts = list(_texts(word))
    if len(texts) != 1:
        flag = "--target" if target is not None else f"--{next(iter(outputs))}"
        raise ConfigError(f"{flag} is for one text, and standard input has {len(texts)} lines", "give one line")
    yield from texts


def _alignment(
    translator: Translator, text: str, target: str | None, search: Search, *, layer: int | None, head: int | None
) -> Alignment:
    if target is None:
        [translation] = translator.translate([text], search=search)
        return translator.align(text, translation, layer=layer, head=head)
    size = len(translator.loaded.codecs.source.encode(text))
    if size > translator.limit:
        warn(f"the text has {size} tokens and the model takes {translator.limit}: the rest is left out")
    return translator.align(text, decode(os.fsencode(target))[0], layer=layer, head=head)


def _write(alignment: Alignment, outputs: dict[str, Path]) -> None:
    if not alignment.source or not alignment.target:
        raise DataError("there is nothing to draw: the text or its translation is empty", "give another TEXT")
    for form in plot.FORMS:
        if form in outputs:  # a figure for each format, because drawing one changes it
            plot.write(outputs[form], plot.rendered(_figure(alignment), form))
    if "npz" in outputs:
        plot.write(outputs["npz"], _arrays(alignment))


def _figure(alignment: Alignment) -> Figure:
    """A heat map with the words along its two axes, and weights as shades of blue."""
    width, height = (min(2 + INCHES * len(words), MOST_INCHES) for words in (alignment.source, alignment.target))
    figure = plot.empty(width, height)
    axes = figure.add_subplot(xlabel=NOTE)
    shades = axes.imshow(alignment.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for axis, words, inches in ((axes.xaxis, alignment.source, width), (axes.yaxis, alignment.target, height)):
        # Words may hold anything: control characters are escaped, and `$` begins no formula.
        escaped = map(escape, words)
        labels = [word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…" for word in escaped]
        size = min(10.0, 0.8 * 72 * inches / len(words))
        axis.set_ticks(range(len(words)), labels=labels, fontsize=size, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", labelrotation=90)
    figure.colorbar(shades, label="weight", shrink=0.8)
    return figure


def _arrays(alignment: Alignment) -> bytes:
    """An npz file of weights (target x source), source and target."""
    import numpy as np

    content = io.BytesIO()
    source, target = (np.array(words, dtype=np.str_) for words in (alignment.source, alignment.target))
    np.savez(content, weights=np.array(alignment.weights, dtype=np.float64), source=source, target=target)
    return content.getvalue()
