"""Multi30k task 1: English-German image captions (Elliott et al., 2016), for research use.

    python data_scripts/multi30k.py --from DIR      a local copy: train.en, train.de, val.*, test_2016_flickr.*
    python data_scripts/multi30k.py                 from the hub, through `datasets`

Writes train, val and test_2016_flickr as one plain file a language: 29,000, 1,014 and 1,000 lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import Pair, check_sizes, hub_pairs, publish, read_lines, run

from seqkit.errors import DataError

__all__ = ["SIZES", "from_folder", "main"]

SIZES = {"train": 29_000, "val": 1_014, "test_2016_flickr": 1_000}
HUB = "bentrevett/multi30k"
HUB_SPLITS = {"train": "train", "val": "validation", "test_2016_flickr": "test"}


def from_folder(folder: Path) -> dict[str, list[Pair]]:
    """The parts of a local copy, plain or compressed. Raises DataError when the two sides differ in length."""
    parts = {}
    for name in SIZES:
        english, german = read_lines(folder, f"{name}.en"), read_lines(folder, f"{name}.de")
        if len(english) != len(german):
            raise DataError(
                f"{folder}: {name}.en has {len(english)} lines, {name}.de {len(german)}",
                "parallel files must match line by line: fetch the shorter one again",
            )
        parts[name] = list(zip(english, german, strict=True))
    return parts


def main(arguments: Sequence[str] | None = None, *, sizes: Mapping[str, int] = SIZES) -> None:
    """Read, check against `sizes` (pairs in each part), write."""
    parser = argparse.ArgumentParser(description="Write Multi30k English-German as plain text files.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="a local copy, .gz or plain")
    where.add_argument(
        "--hub", default=HUB, metavar="NAME", help="dataset on the hub, or a folder like it (%(default)s)"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where the hub's files are kept (the usual cache)")
    parser.add_argument("--out", type=Path, default=Path("data/multi30k"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.folder is not None:
        parts = from_folder(options.folder)
    else:
        parts = hub_pairs(options.hub, splits=HUB_SPLITS, columns=("en", "de"), cache=options.cache)
    check_sizes(parts, sizes)
    files = {}
    for name, pairs in parts.items():
        files[f"{name}.en"] = [source for source, _ in pairs]
        files[f"{name}.de"] = [target for _, target in pairs]
    publish(options.out, files)


if __name__ == "__main__":
    run(main)
