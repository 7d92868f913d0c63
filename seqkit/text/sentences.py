"""Long lines cut where it harms least: at the ends of sentences, else between words, else anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

__all__ = ["parts"]

# A sentence's last character, what may close behind it, and the space or, in scripts that have none, nothing.
END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])")  # noqa: RUF001


def parts(text: str, *, size: Callable[[str], int], limit: int) -> list[str]:
    """A text in pieces of at most `limit` by `size`, as long as may be; nothing but space between them is lost.

    `size` is the number of tokens of a text and grows with it. A single word above the limit is cut between
    characters; a single character above it stays whole.
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
    """Neighbours joined as far as they fit; what does not fit alone is cut further."""
    found: list[str] = []
    held = ""
    for piece in pieces:
        if held and size((held + piece).strip()) <= limit:
            held += piece
            continue
        if held:
            found.append(held.strip())
            held = ""
        if size(piece.strip()) <= limit:
            held = piece
        else:
            *whole, held = _cut(piece, size, limit)
            found += whole
            held += piece[len(piece.rstrip()) :]  # the space before what may follow
    return [*found, held.strip()] if held.strip() else found


def _cut(piece: str, size: Callable[[str], int], limit: int) -> list[str]:
    """A sentence that is too long, between words, or a word between characters: the longest beginnings that fit."""
    words = re.findall(r"\S+\s*", piece)
    units = words if len(words) > 1 else list(piece.strip())
    found: list[str] = []
    begin = 0
    while begin < len(units):
        fits, beyond = 1, len(units) - begin + 1  # so many units fit, so many do not
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if size("".join(units[begin : begin + middle]).strip()) <= limit:
                fits = middle
            else:
                beyond = middle
        unit = "".join(units[begin : begin + fits]).strip()
        found += _cut(unit, size, limit) if fits == 1 and len(unit) > 1 and size(unit) > limit else [unit]
        begin += fits
    return found
