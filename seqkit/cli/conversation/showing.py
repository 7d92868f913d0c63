"""What a conversation prints besides translations: dim lines with marked parts, control characters escaped."""

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

__all__ = [
    "Span",
    "changed_words",
    "coloured",
    "figures",
    "print_error",
    "print_note",
    "score_lines",
    "spaced",
    "token_spans",
    "word_diff",
]

BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")


class Span(NamedTuple):
    """A part of a line, and how it is printed."""

    text: str
    style: Literal["dim", "plain", "marked"] = "dim"  # marked: underlined, or in brackets without styles


def coloured(stream: TextIO) -> bool:
    """Whether a stream takes colours and other styles."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"


def print_note(*parts: str | Span) -> None:
    """Print a line that is no translation to stderr, with control characters escaped."""
    styled = coloured(sys.stderr)
    line = "".join(_styled(part if isinstance(part, Span) else Span(part), styled=styled) for part in parts)
    click.echo(line, err=True, color=styled)


def _styled(part: Span, *, styled: bool) -> str:
    text = escape(part.text)
    if not styled:
        return f"[{text}]" if part.style == "marked" else text
    match part.style:
        case "dim":
            return click.style(text, dim=True)
        case "plain":
            return text
        case "marked":
            return click.style(text, bold=True, underline=True)


def print_error(what: str, hint: str | None) -> None:
    """Print an error and its hint."""
    print_note(" ".join(what.split("\n")))
    if hint:
        print_note(f"hint: {hint}")


def spaced(parts: Iterable[Span]) -> Iterator[Span]:
    """Parts with spaces between them."""
    for index, part in enumerate(parts):
        if index:
            yield Span(" ")
        yield part


def figures(translation: Translation, seconds: float) -> str:
    """`score -0.04 per token   p 0.71   12+9 tokens   38 ms   unknown: none`."""
    generated = len(translation.target_ids) + (0 if translation.truncated else translation.parts)
    parts = [
        f"score {translation.log_prob / max(generated, 1):.2f} per token",
        f"p {math.exp(translation.log_prob):.2g}",
        f"{len(translation.source_ids)}+{len(translation.target_ids)} tokens",
        f"{1000 * seconds:.0f} ms",
        f"unknown: {translation.unknown or 'none'}",
    ]
    if translation.missing:
        parts.append(f"missing terms: {', '.join(translation.missing)}")
    if translation.parts > 1:
        parts.append(f"the input was too long: translated in {translation.parts} parts")
    if translation.truncated:
        parts.append("the output reached the length limit")
    return "   ".join(parts)


def changed_words(best: str, other: str) -> Iterator[Span]:
    """The words of `other`, those marked that differ from `best`."""
    for same, _, words in _matching_runs(best, other):
        if words:
            yield Span(" ".join(words), "dim" if same else "marked")


def word_diff(output: str, reference: str) -> Iterator[Span]:
    """The edits that turn a text into another: deleted words as `[-so-]`, inserted ones as `{+so+}`."""
    for same, old, new in _matching_runs(output, reference):
        if same:
            yield Span(" ".join(old))
            continue
        if old:
            yield Span(f"[-{' '.join(old)}-]", "plain")
        if new:
            yield Span(f"{{+{' '.join(new)}+}}", "plain")


def _matching_runs(old: str, new: str) -> Iterator[tuple[bool, list[str], list[str]]]:
    """Runs of words that two texts share, and the words between such runs in each of them."""
    before, after = old.split(), new.split()
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        yield kind == "equal", before[a:b], after[c:d]


def token_spans(codec: Codec, ids: Sequence[int]) -> Iterator[Span]:
    """The tokens that the model reads or writes; unknown ones, and bytes in place of a missing piece, are marked."""
    from seqkit.text.vocabulary import UNKNOWN

    bytewise = isinstance(codec.settings, SentencePiece)
    for id, token in zip(ids, codec.tokens(ids), strict=True):
        marked = id == UNKNOWN or (bytewise and BYTE_PIECE.fullmatch(token))
        yield Span(token, "marked" if marked else "dim")


def score_lines(tokens: Sequence[str], score: ForcedScore) -> Iterator[tuple[str | Span, ...]]:
    """Two lines on a given translation: its probability, and its tokens, the least likely one marked."""
    count = len(score.log_probs)
    yield (
        f"log-probability {score.log_prob:.2f}   p {math.exp(score.log_prob):.2g}   "
        f"score {score.log_prob / count:.2f} per token   {count} tokens",
    )
    worst = min(range(count), key=score.log_probs.__getitem__)
    spans = (Span(token, "marked" if index == worst else "dim") for index, token in enumerate(tokens))
    yield (*spaced(spans), Span(f"   worst: {tokens[worst]}, p {math.exp(score.log_probs[worst]):.2g}"))
