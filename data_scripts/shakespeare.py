"""Tiny Shakespeare (Karpathy, 2015): 40,000 lines of plays, 1,115,394 characters, 65 of them different; public domain.

    python data_scripts/shakespeare.py --from DIR       a local copy: tinyshakespeare.txt or input.txt
    python data_scripts/shakespeare.py                  from https://github.com/karpathy/char-rnn

Writes train.txt and valid.txt: the first 90 % of the characters (1,003,854) and the last 10 % (111,540), cut where
nanoGPT cuts. That is inside a line: train.txt has no line end at its end, and both together are the original's bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from common import publish_texts, read_text, run

__all__ = ["SHA256", "main"]

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


def main(arguments: Sequence[str] | None = None, *, sha256: str = SHA256) -> None:
    """Read, check against the SHA-256 of the original, write."""
    parser = argparse.ArgumentParser(description="Write Tiny Shakespeare as two plain text files.")
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="a local copy, .gz or plain")
    out = Path("data/shakespeare")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    text = read_text(options.folder, "tinyshakespeare.txt", "input.txt", url=URL, sha256=sha256)
    cut = int(0.9 * len(text))
    publish_texts(options.out, {"train.txt": text[:cut], "valid.txt": text[cut:]})


if __name__ == "__main__":
    run(main)
