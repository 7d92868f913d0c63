"""Named normalisation steps, which are applied to a text before it is tokenized."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from seqkit.errors import ConfigError, closest
from seqkit.text.vocabulary import UNKNOWN_MARK

__all__ = ["STEPS", "clean", "normaliser"]

# All characters that some program treats as a line end, NUL, and surrogates, which UTF-8 lacks.
UNCLEAN = re.compile(r"[\x00\n\v\f\r\x1c-\x1e\x85\u2028\u2029]|([\ud800-\udfff])")

ASCII_FORMS = str.maketrans(
    {
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\u301f", '"'),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032", "'"),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    }
)


def clean(text: str) -> str:
    """The text as one line of valid Unicode: line breaks of any kind and NUL become spaces, lone surrogates U+FFFD."""
    return UNCLEAN.sub(lambda match: "\ufffd" if match[1] else " ", text)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _nfkc(text: str) -> str:
    # NFKC would replace the mark of an unknown token by two question marks, which are other tokens.
    return UNKNOWN_MARK.join(unicodedata.normalize("NFKC", part) for part in text.split(UNKNOWN_MARK))


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _quotes(text: str) -> str:
    return text.translate(ASCII_FORMS)


STEPS: dict[str, Callable[[str], str]] = {
    "nfc": _nfc,  # canonical composition (Unicode Standard Annex 15)
    "nfkc": _nfkc,  # compatibility composition, by which ligatures, full-width letters etc. become plain letters
    "lower": str.lower,
    "spaces": _spaces,  # each run of white space becomes one space; none at the ends
    "quotes": _quotes,  # typographic quotation marks and dashes become ASCII
}


def normaliser(steps: Sequence[str]) -> Callable[[str], str]:
    """The named steps, in order, as one idempotent function.

    Each step by itself is idempotent, but lower case may undo a composition and a composition may produce capitals, so
    several steps are repeated until the text no longer changes. Raises ConfigError for an unknown step.
    """
    for step in steps:
        if step not in STEPS:
            suggestion = closest(step, STEPS)
            hint = f"did you mean {suggestion!r}?" if suggestion else f"choose from {', '.join(STEPS)}"
            raise ConfigError(f"text.normalise: unknown step {step!r}", hint)
    functions = [STEPS[step] for step in steps]
    if len(functions) == 1:
        return functions[0]

    def normalise(text: str) -> str:
        while True:
            before = text
            for function in functions:
                text = function(text)
            if text == before:
                return text

    return normalise
