"""Escaping of untrusted text for a terminal, so that it can neither control the terminal nor mislead its reader."""

from __future__ import annotations

import re

__all__ = ["escape"]

# C0 and C1 controls, line and paragraph separators, everything that changes the direction of writing, byte order mark,
# lone surrogates, invisible tags. Joiners are not escaped: Persian, Indic scripts and emoji need them.
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape(text: str) -> str:
    r"""Text with its control and direction-changing characters made visible, as in `\x1b[2J`.

    The result can neither move a terminal's cursor nor forge, hide or reorder what is shown on it.
    """
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
