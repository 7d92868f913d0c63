"""Attention as a heat map of characters."""

from __future__ import annotations

import math
import re
import textwrap
from bisect import bisect
from collections.abc import Sequence
from typing import NamedTuple

from seqkit.system.terminal import escape

__all__ = ["NOTE", "Alignment", "heat_map", "merge_pieces"]

NOTE = "attention is a hint, not an explanation"

SHADES = " .:*#"
THRESHOLDS = (0.05, 0.2, 0.4, 0.6)  # a weight at or above the n-th one has the (n+1)-th shade
# Foreground and background of each shade in the 256-colour palette, dark blue to pale: both are set, so that the
# picture looks the same on light and dark terminals; the shade's character stays, for those who see no colour.
COLOURS = ((231, 17), (231, 18), (231, 25), (16, 38), (16, 159))
MAXIMUM_WORDS = 60
GAP = "  "
WORD_START = "\u2581"  # SentencePiece's mark of a space

BYTE_PIECES = re.compile("(?:<0x[0-9A-F]{2}>)+")


class Alignment(NamedTuple):
    """Words of both sides and how strongly each target word attended to each source word."""

    source: list[str]
    target: list[str]
    weights: list[list[float]]  # target x source; each row sums to 1


def merge_pieces(source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]]) -> Alignment:
    """Join SentencePiece pieces to words: a word's weight is summed over its source, averaged over its target pieces.

    `weights` is target x source pieces. End tokens are left out by the caller; rows are rescaled to sum to 1 over
    what is left (a row of zeros stays). Runs of byte pieces are shown as the characters they spell. Raises ValueError
    when the shapes disagree.
    """
    _check_shape(source, target, weights)
    columns, rows = _word_spans(source), _word_spans(target)
    merged = []
    for row in rows:
        summed = [sum(weights[t][s] for t in row for s in column) for column in columns]
        total = sum(summed)  # rescaling takes care of the average too
        merged.append([weight / total for weight in summed] if total > 0 else summed)
    return Alignment(_join(source, columns), _join(target, rows), merged)


def _word_spans(pieces: Sequence[str]) -> list[range]:
    starts = [i for i, piece in enumerate(pieces) if i == 0 or piece.startswith(WORD_START)]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], len(pieces)], strict=True)]


def _join(pieces: Sequence[str], spans: Sequence[range]) -> list[str]:
    words = ("".join(pieces[i] for i in span).replace(WORD_START, "") for span in spans)
    return [BYTE_PIECES.sub(_spell_bytes, word) for word in words]


def _spell_bytes(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("<0x", "").replace(">", "")).decode(errors="replace")


def _check_shape(source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]]) -> None:
    if len(weights) != len(target) or any(len(row) != len(source) for row in weights):
        shape = f"{len(weights)} rows of {sorted({len(row) for row in weights})}"
        raise ValueError(f"weights must be {len(target)} x {len(source)} (target x source), but are {shape}")


def heat_map(
    source: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]], *, width: int, colour: bool
) -> list[str]:
    """Attention as lines for a terminal `width` cells wide: columns are source words, rows are target words.

    `weights` is target x source, shaded by ` .:*#` (from 0, 0.05, 0.2, 0.4, 0.6), with `colour` on a background as
    well. If the words do not fit, columns are numbered and a legend follows; if that does not fit either, or a side has
    over 60 words, each target word is listed with its strongest source word. Words are escaped, no line is wider than
    `width`, and `NOTE` follows. A weight that is not finite is shown as `?`. Raises ValueError when the shapes
    disagree.
    """
    _check_shape(source, target, weights)
    source, target = [_visible(word) for word in source], [_visible(word) for word in target]
    note = textwrap.wrap(NOTE, max(width, 1))
    if not source or not target:
        return note
    label = min(max(map(_cells, target)), max(width // 3, 1))
    numerals = [str(i).rjust(len(str(len(source)))) for i in range(1, len(source) + 1)]
    if max(len(source), len(target)) <= MAXIMUM_WORDS:
        for headings in (source, numerals):
            if label + sum(len(GAP) + _cells(heading) for heading in headings) <= width:
                grid = _grid(headings, target, weights, label=label, colour=colour)
                return grid + (_legend(source, width) if headings is numerals else []) + note
    return [_strongest(source, word, row, width) for word, row in zip(target, weights, strict=True)] + note


def _grid(
    headings: Sequence[str], target: Sequence[str], weights: Sequence[Sequence[float]], *, label: int, colour: bool
) -> list[str]:
    picture = [" " * label + "".join(GAP + heading for heading in headings)]
    for word, row in zip(target, weights, strict=True):
        cells = "".join(
            GAP + _shade(weight, _cells(heading), colour=colour) for heading, weight in zip(headings, row, strict=True)
        )
        picture.append((_pad(_crop(word, label), label) + cells).rstrip(" "))
    return picture


def _shade(weight: float, size: int, *, colour: bool) -> str:
    """One cell of the picture: the shade's character in the middle of `size` cells."""
    level = bisect(THRESHOLDS, weight) if math.isfinite(weight) else 0
    mark = SHADES[level] if math.isfinite(weight) else "?"
    text = (" " * ((size - 1) // 2) + mark).ljust(size)
    foreground, background = COLOURS[level]
    return f"\x1b[38;5;{foreground};48;5;{background}m{text}\x1b[0m" if colour else text


def _legend(source: Sequence[str], width: int) -> list[str]:
    """`1 the  2 5th  3 of`, broken into lines that fit."""
    lines: list[str] = []
    for number, word in enumerate(source, start=1):
        entry = _crop(f"{number} {word}", width)
        if lines and _cells(lines[-1]) + len(GAP) + _cells(entry) <= width:
            lines[-1] += GAP + entry
        else:
            lines.append(entry)
    return lines


def _strongest(source: Sequence[str], word: str, row: Sequence[float], width: int) -> str:
    """`März <- March 0.83`; the words are shortened before the number is."""
    finite = [weight if math.isfinite(weight) else -1.0 for weight in row]
    best = max(range(len(finite)), key=finite.__getitem__)
    number = f" {row[best]:.2f}"
    room = max(width - len(" <- ") - len(number), 2)
    left = _crop(word, max(room // 2, room - _cells(source[best])))
    right = _crop(source[best], room - _cells(left))
    return _crop(f"{left} <- {right}{number}", width)


def _visible(word: str) -> str:
    """A word as it is shown: escaped, and never without a cell of its own."""
    word = escape(word)
    return word if _cells(word) else "_"


def _cells(text: str) -> int:
    """Cells that text takes on a terminal: two for East Asian wide characters and most emoji, none for marks."""
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, size: int) -> str:
    return text + " " * (size - _cells(text))


def _crop(text: str, size: int) -> str:
    """Text that takes at most `size` cells, with an ellipsis where it was cut."""
    if _cells(text) <= size:
        return text
    kept = text[: max(size, 0)]
    while kept and _cells(kept) > size - 1:
        kept = kept[:-1]
    return f"{kept}…" if size > 0 else ""
