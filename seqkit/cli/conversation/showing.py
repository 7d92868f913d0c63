"""What a conversation says besides translations: dim lines with marked parts, in which foreign text can do nothing."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

import click

from seqkit.settings import SentencePiece
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.translation import Translation
    from seqkit.search.forced_score import ForcedScore
    from seqkit.text.codec import Codec

__all__ = ["Span", "aside", "changed_words", "coloured", "figures", "joined", "pieces", "scored", "tell", "word_diff"]

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


class Span(NamedTuple):
    """A part of a line."""

    text: str
    look: Literal["dim", "plain", "marked"] = (
        "dim"  # marked: underlined, or in brackets where nothing can be underlined
    )


def coloured(stream: TextIO) -> bool:
    """Whether what goes there may have colours and the like."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"


def aside(*parts: str | Span) -> None:
    """Say something that is no translation, on one line of stderr; whatever it holds is escaped here."""
    styled = coloured(sys.stderr)
    line = "".join(_look(part if isinstance(part, Span) else Span(part), styled=styled) for part in parts)
    click.echo(line, err=True, color=styled)


def _look(part: Span, *, styled: bool) -> str:
    text = escape(part.text)
    if not styled:
        return f"[{text}]" if part.look == "marked" else text
    match part.look:
        case "dim":
            return click.style(text, dim=True)
        case "plain":
            return text
        case "marked":
            return click.style(text, bold=True, underline=True)


def tell(what: str, hint: str | None) -> None:
    """Say what went wrong, and what to do."""
    aside(" ".join(what.split("\n")))
    if hint:
        aside(f"hint: {hint}")


def joined(parts: Iterable[Span]) -> Iterator[Span]:
    """Parts with spaces between them."""
    for place, part in enumerate(parts):
        if place:
            yield Span(" ")
        yield part


def figures(found: Translation, seconds: float) -> str:
    """`score -0.04 per token   p 0.71   12+9 tokens   38 ms   unknown: none`."""
    generated = len(found.target_ids) + (0 if found.truncated else found.parts)
    shown = [
        f"score {found.log_prob / max(generated, 1):.2f} per token",
        f"p {math.exp(found.log_prob):.2g}",
        f"{len(found.source_ids)}+{len(found.target_ids)} tokens",
        f"{1000 * seconds:.0f} ms",
        f"unknown: {found.unknown or 'none'}",
    ]
    if found.missing:
        shown.append(f"missing terms: {', '.join(found.missing)}")
    if found.parts > 1:
        shown.append(f"the input was too long: translated in {found.parts} parts")
    if found.truncated:
        shown.append("the output reached the length limit")
    return "   ".join(shown)


def changed_words(best: str, other: str) -> Iterator[Span]:
    """The words of a text, those marked that another does not have in their place."""
    for same, _, words in _runs(best, other):
        if words:
            yield Span(" ".join(words), "dim" if same else "marked")


def word_diff(output: str, reference: str) -> Iterator[Span]:
    """What has to go from a text, `[-so-]`, and what has to come, `{+so+}`, to make it another."""
    for same, old, new in _runs(output, reference):
        if same:
            yield Span(" ".join(old))
            continue
        if old:
            yield Span(f"[-{' '.join(old)}-]", "plain")
        if new:
            yield Span(f"{{+{' '.join(new)}+}}", "plain")


def _runs(one: str, other: str) -> Iterator[tuple[bool, list[str], list[str]]]:
    """Stretches of words that two texts share, and what stands between them in each."""
    before, after = one.split(), other.split()
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        yield kind == "equal", before[a:b], after[c:d]


def pieces(codec: Codec, ids: Sequence[int]) -> Iterator[Span]:
    """What the model reads or writes, token by token; those that are unknown, or bytes for want of a piece, marked."""
    from seqkit.text.vocabulary import UNKNOWN

    bytewise = isinstance(codec.settings, SentencePiece)
    for id, token in zip(ids, codec.tokens(ids), strict=True):
        odd = id == UNKNOWN or (bytewise and BYTE_PIECE.fullmatch(token))
        yield Span(token, "marked" if odd else "dim")


def scored(tokens: Sequence[str], found: ForcedScore) -> Iterator[tuple[str | Span, ...]]:
    """Two lines about a given translation: its probability, and its tokens, the least likely one marked."""
    count = len(found.log_probs)
    yield (
        f"log-probability {found.log_prob:.2f}   p {math.exp(found.log_prob):.2g}   "
        f"score {found.log_prob / count:.2f} per token   {count} tokens",
    )
    worst = min(range(count), key=found.log_probs.__getitem__)
    marked = (Span(token, "marked" if place == worst else "dim") for place, token in enumerate(tokens))
    yield (*joined(marked), Span(f"   worst: {tokens[worst]}, p {math.exp(found.log_probs[worst]):.2g}"))
