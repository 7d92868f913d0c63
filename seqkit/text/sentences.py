"""Splitting of long lines, preferably at the ends of sentences, otherwise between words or characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["split_line"]

# The space after a sentence's last character and closing quotation marks; in scripts without spaces, no character.
END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])")  # noqa: RUF001


def split_line(text: str, *, size: Callable[[str], int], limit: int) -> list[str]:
    """Split a text into the longest pieces with a `size` of at most `limit`; only spaces between them are lost.

    `size` is the number of tokens of a text and grows with its length. A single word above the limit is split between
    characters; a single character above it is one piece.
    """
    if size(text) <= limit:
        return [text]
    return _packed(list(_sentences(text)), size, limit)


def _sentences(text: str) -> Iterator[str]:
    begin = 0
    for match in END.finditer(text):
        piece = text[begin : match.end()]
        if piece.strip():
            yield piece
            begin = match.end()
    if text[begin:].strip():
        yield text[begin:]


def _packed(pieces: list[str], size: Callable[[str], int], limit: int) -> list[str]:
    """Join neighbours while they fit; a piece above the limit is split further."""
    packed: list[str] = []
    current = ""
    for piece in pieces:
        if current and size((current + piece).strip()) <= limit:
            current += piece
            continue
        if current:
            packed.append(current.strip())
            current = ""
        if size(piece.strip()) <= limit:
            current = piece
        else:
            *full, current = _split(piece, size, limit)
            packed += full
            current += piece[len(piece.rstrip()) :]  # the space before the next piece
    return [*packed, current.strip()] if current.strip() else packed


def _split(piece: str, size: Callable[[str], int], limit: int) -> list[str]:
    """Split a long sentence between words, or a word between characters, into the longest prefixes that fit."""
    words = re.findall(r"\S+\s*", piece)
    units = words if len(words) > 1 else list(piece.strip())
    splits: list[str] = []
    begin = 0
    while begin < len(units):
        fitting, excessive = 1, len(units) - begin + 1  # binary search: numbers of units that fit, and that do not
        while excessive - fitting > 1:
            middle = (fitting + excessive) // 2
            if size("".join(units[begin : begin + middle]).strip()) <= limit:
                fitting = middle
            else:
                excessive = middle
        unit = "".join(units[begin : begin + fitting]).strip()
        splits += _split(unit, size, limit) if fitting == 1 and len(unit) > 1 and size(unit) > limit else [unit]
        begin += fitting
    return splits
