"""The Time Machine by H. G. Wells (1895, public domain) as letters, by the protocol of "Dive into Deep Learning".

    python data_scripts/timemachine.py --from DIR       a local copy: timemachine.txt, plain or compressed
    python data_scripts/timemachine.py                  from https://d2l-data.s3-accelerate.amazonaws.com

The text is the one of that book (Zhang et al., d2l.ai), known by its SHA-256; Project Gutenberg's
is another. In each line every run of characters that are no ASCII letters becomes one space, letters become lower case,
and the lines are stripped and joined without a space between: 170,580 characters in 27 symbols. So the editions of the
book did whose settings (batches of 32, 35 steps, 10,000 characters) and figures are quoted; since its version 1.0 it
keeps a space between lines, 173,428 characters, which are easier to predict: 1.31 nats a character instead of 1.43 by a
7-gram on the last tenth.

Writes, one line each and no line end behind it: letters.txt, all of it; first10000.txt, its first 10,000 characters, on
which the book's earlier versions train and report; train.txt and heldout.txt, the first 90 % (153,522) and the last
10 % (17,058), cut between two characters.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from common import publish_texts, read_text, run

__all__ = ["SHA256", "letters", "main"]

SHA256 = "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516"
URL = "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"


def letters(text: str) -> str:
    """The text in 27 symbols: every run of other characters in a line becomes a space, and lines are joined without."""
    lines = (re.sub("[^A-Za-z]+", " ", line).lower().strip() for line in text.split("\n"))
    return "".join(lines)  # lower() comes last: it makes a k of the Kelvin sign


def main(arguments: Sequence[str] | None = None, *, sha256: str = SHA256) -> None:
    """Read, check against the SHA-256 of the original, write."""
    parser = argparse.ArgumentParser(description="Write The Time Machine as lines of letters and spaces.")
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="a local copy, .gz or plain")
    out = Path("data/timemachine")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    text = letters(read_text(options.folder, "timemachine.txt", url=URL, sha256=sha256))
    cut = int(0.9 * len(text))
    parts = {"letters.txt": text, "first10000.txt": text[:10_000], "train.txt": text[:cut], "heldout.txt": text[cut:]}
    publish_texts(options.out, parts)


if __name__ == "__main__":
    run(main)
