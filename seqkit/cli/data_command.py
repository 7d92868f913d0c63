"""`seqkit data`: counts and frequencies of texts."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.cli import plot
from seqkit.cli.main import SuggestingGroup, common
from seqkit.errors import DataError
from seqkit.files import decode, lines, open_binary
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqkit.data.statistics import NgramFrequencies, Statistics

__all__ = ["command"]

NAMES = ("unigrams", "bigrams", "trigrams")
SPACE = "\u2581"  # stands for a space among characters, as in sentencepiece
LONGEST = 60  # characters of an n-gram in a table
HEIGHT = 12  # of a curve, in lines
WIDE = 60  # columns at least of a terminal for three curves side by side
GAP = "  "
NO_DOTS = 0x2800  # of the braille characters; its dots by column and row:
BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@click.group(cls=SuggestingGroup, no_args_is_help=False)
def command() -> None:
    """Look at texts: counts, frequencies, Zipf's law.

    \b
    seqkit data stats train.en
    seqkit data stats book.txt --tokens characters --png book.png
    """


@command.command(cls=files.Command)
@files.argument("texts")
@click.option("--tokens", type=click.Choice(["words", "characters"]), default="words", show_default=True)
@click.option("--top", type=click.IntRange(min=0), default=10, show_default=True, help="Most frequent n-grams shown.")
@click.option("--png", type=click.Path(path_type=Path), help="Draw rank against frequency to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def stats(texts: tuple[str, ...], tokens: str, top: int, png: Path | None, as_json: bool) -> None:
    """Count lines, tokens and n-grams of text files, taken together; words stand between spaces.

    \b
    seqkit data stats train.en
    seqkit data stats train.{en,de}.gz --top 20
    seqkit data stats book.txt --tokens characters --png book.png
    """
    from seqkit.data.statistics import statistics

    figure = plot.empty(6, 4) if png else None  # where nothing can be drawn, the error comes before the work
    bad: dict[str, int] = {}
    results = statistics((line.split() if tokens == "words" else line for line in _lines(texts, bad)), top=top)
    for text, count in bad.items():
        if count and not common().quiet:
            click.echo(f"seqkit: {escape(text)}: lines with bytes that are not UTF-8, left out: {count}", err=True)
    if not results.tokens:
        raise DataError(f"there is no token in {' '.join(texts)}", "all lines are blank or not UTF-8")
    if as_json:
        record = msgspec.json.encode(_record(results, texts, tokens, sum(bad.values())))
        click.echo(escape(record.decode()) if sys.stdout.isatty() else record)
    else:
        tops = [line for ngrams in results.frequencies for line in _top(ngrams, tokens)]
        click.echo("\n".join([*_table(results), *tops, "", *_plot(results.frequencies)]))
    if png and figure:
        _draw(figure, results.frequencies, png)


def _lines(texts: Sequence[str], bad: dict[str, int]) -> Iterator[str]:
    """The lines of files; those that are not UTF-8 are left out and counted in `bad`."""
    for text in texts:
        bad[text] = 0
        empty = True
        with open_binary(text) as stream:
            for raw in lines(stream, text):
                empty = False
                line, good = decode(raw)
                if good:
                    yield line
                else:
                    bad[text] += 1
        if empty:
            raise DataError(f"{text} is empty", "it must hold at least one line")


def _record(results: Statistics, texts: Sequence[str], tokens: str, bad: int) -> dict[str, object]:
    return {
        "files": texts,
        "unit": tokens,
        "lines": results.lines,
        "bad_lines": bad,
        "tokens": results.tokens,
        "mean_line": results.mean,
        "longest_line": results.longest,
        "ngrams": [
            {
                "order": ngrams.order,
                "total": int(ngrams.ranked.sum()),
                "types": ngrams.types,
                "hapaxes": ngrams.hapaxes,
                "zipf_slope": ngrams.slope,
                "top": ngrams.top,
            }
            for ngrams in results.frequencies
        ],
    }


def _table(results: Statistics) -> list[str]:
    """The counts as lines of a table, a column for each order of n-grams."""
    rows = [("", *NAMES), ("all",), ("different",), ("seen once",), ("Zipf slope",)]
    for ngrams in results.frequencies:
        share = f"{100 * ngrams.hapaxes / max(ngrams.types, 1):.1f} %"
        slope = "-" if ngrams.slope is None else f"{ngrams.slope:.2f}"
        cells = (f"{ngrams.ranked.sum()}", f"{ngrams.types}", f"{ngrams.hapaxes} ({share})", slope)
        rows[1:] = [(*row, cell) for row, cell in zip(rows[1:], cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [GAP.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    totals = {
        "lines": results.lines,
        "tokens": results.tokens,
        "mean line": f"{results.mean:.2f}",
        "longest": results.longest,
    }
    return [*(f"{name.ljust(widths[0])}{GAP}{value}" for name, value in totals.items()), "", *table]


def _top(ngrams: NgramFrequencies, tokens: str) -> list[str]:
    """The most frequent n-grams of an order, escaped and not longer than `LONGEST`."""
    if not ngrams.top:
        return []
    table = ["", f"most frequent {NAMES[ngrams.order - 1]}"]
    for ngram in ngrams.top:
        text = escape(" ".join(ngram.tokens) if tokens == "words" else "".join(ngram.tokens).replace(" ", SPACE))
        table.append(f"{ngram.count:10}{GAP}{text if len(text) <= LONGEST else text[: LONGEST - 1] + '…'}")
    return table


def _plot(frequencies: Sequence[NgramFrequencies]) -> list[str]:
    """Rank against frequency, both logarithmic, in braille: side by side on a wide terminal, else one below the other.

    All three curves have the same scales.
    """
    width = shutil.get_terminal_size().columns
    beside = width >= WIDE
    size = (width - 2 * len(GAP)) // 3 if beside else width
    ranks = max(ngrams.types for ngrams in frequencies)
    count = max(int(ngrams.ranked[0]) for ngrams in frequencies if ngrams.types)
    scales = math.log(max(ranks, 2)), math.log(max(count, 2))
    panels = [
        [name.ljust(size), *_panel(ngrams, size, scales)] for name, ngrams in zip(NAMES, frequencies, strict=True)
    ]
    picture = [GAP.join(row) for row in zip(*panels, strict=True)] if beside else list(chain(*panels))
    legend = f"rank 1 to {ranks} across, count 1 to {count} up, both logarithmic"
    return [*(line.rstrip() for line in picture), *textwrap.wrap(legend, width)]


def _panel(ngrams: NgramFrequencies, size: int, scales: tuple[float, float]) -> list[str]:
    """One curve, `size` cells wide; a cell has 2 x 4 dots."""
    import numpy as np

    cells = [[NO_DOTS] * size for _ in range(HEIGHT)]
    ranks = np.log(np.arange(1, ngrams.types + 1))
    across = np.linspace(0, scales[0], 2 * size)
    across = across[across <= ranks.max(initial=-1) + 1e-9]
    if len(across):
        heights = np.interp(across, ranks, np.log(ngrams.ranked)) / scales[1]
        rows = np.rint((4 * HEIGHT - 1) * (1 - heights)).astype(int).tolist()
        for column, (last, row) in enumerate(zip(rows[:1] + rows[:-1], rows, strict=True)):
            for dot in range(min(last + 1, row), row + 1):  # no gap where the curve falls steeply
                cells[dot // 4][column // 2] |= BRAILLE[column % 2][dot % 4]
    return ["".join(map(chr, row)) for row in cells]


def _draw(figure: Figure, frequencies: Sequence[NgramFrequencies], path: Path) -> None:
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="rank", ylabel="frequency")
    for name, ngrams in zip(NAMES, frequencies, strict=True):
        axes.plot(range(1, ngrams.types + 1), ngrams.ranked, label=name)
    axes.legend()
    plot.write(path, plot.rendered(figure, "png"))
