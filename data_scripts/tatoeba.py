"""Tatoeba English-French sentence pairs (CC BY 2.0 FR, tatoeba.org via manythings.org/anki).

    python data_scripts/tatoeba.py --from DIR       the fixed split: {train,valid,test}.en-fr.tsv, plain or compressed
    python data_scripts/tatoeba.py --pairs fra.txt  a new split of the download at manythings.org/anki (fra-eng.zip)

The fixed split (a snapshot of 2017-09; 138,029 / 982 / 998 pairs) is not on the hub, and Tatoeba grows, so there is
nothing to fetch that would equal it: scores on a new split cannot be compared with scores on the fixed one.

Rule of a new split: only a pair whose two sentences stand nowhere else in the file may leave train; of these, those
with the smallest SHA-256 of the English sentence make test, then valid. So no sentence of test or valid, on either
side, occurs in train, and the same file gives the same split everywhere.

Writes train.tsv, valid.tsv and test.tsv, English first.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import Pair, check_sizes, publish, read_pairs, run

from seqkit.errors import DataError

__all__ = ["SIZES", "check_apart", "main", "split"]

SIZES = {"train": 138_029, "valid": 982, "test": 998}
HELD_OUT = 1000  # pairs of valid, and of test, in a new split


def check_apart(parts: Mapping[str, Sequence[Pair]]) -> None:
    """Raise DataError if a sentence of valid or test, on either side, occurs in train."""
    for side in (0, 1):
        seen = {pair[side] for pair in parts["train"]}
        for name in ("valid", "test"):
            leaked = next((pair[side] for pair in parts[name] if pair[side] in seen), None)
            if leaked is not None:
                raise DataError(f"a sentence of {name} occurs in train: {leaked!r}", "this is not the fixed split")


def split(pairs: Sequence[Pair], *, held_out: int) -> dict[str, list[Pair]]:
    """A new split by the rule above: `held_out` pairs each for valid and test, the rest, without repeats, for train.

    Raises DataError if too few pairs stand apart from all others.
    """
    pairs = list(dict.fromkeys(pairs))
    english, french = Counter(source for source, _ in pairs), Counter(target for _, target in pairs)
    alone = [pair for pair in pairs if english[pair[0]] == french[pair[1]] == 1]
    if len(alone) < 2 * held_out:
        raise DataError(
            f"{len(alone)} pairs stand apart from all others, valid and test need {2 * held_out}", "use a larger file"
        )
    alone.sort(key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    test, valid = set(alone[:held_out]), set(alone[held_out : 2 * held_out])
    return {
        "train": [pair for pair in pairs if pair not in test and pair not in valid],
        "valid": [pair for pair in pairs if pair in valid],
        "test": [pair for pair in pairs if pair in test],
    }


def main(arguments: Sequence[str] | None = None, *, sizes: Mapping[str, int] = SIZES, held_out: int = HELD_OUT) -> None:
    """Read or split, check (`sizes`: pairs in each part of the fixed split), write."""
    parser = argparse.ArgumentParser(description="Write Tatoeba English-French as TSV files.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--from", dest="folder", type=Path, metavar="DIR", help="a local copy of the fixed split")
    where.add_argument("--pairs", type=Path, metavar="FILE", help="split this file anew (fra.txt of fra-eng.zip)")
    parser.add_argument("--out", type=Path, default=Path("data/tatoeba"), metavar="DIR", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.folder is not None:
        parts = {name: read_pairs(options.folder, f"{name}.en-fr.tsv", f"{name}.tsv") for name in SIZES}
        check_sizes(parts, sizes)
    elif options.pairs is not None:
        parts = split(read_pairs(options.pairs.parent, options.pairs.name), held_out=held_out)
    else:
        raise DataError(
            "the fixed split of Tatoeba is not on the hub",
            "give a copy, --from DIR; or split fra.txt of https://www.manythings.org/anki/fra-eng.zip, --pairs fra.txt",
        )
    check_apart(parts)
    publish(options.out, {f"{name}.tsv": [f"{en}\t{fr}" for en, fr in pairs] for name, pairs in parts.items()})


if __name__ == "__main__":
    run(main)
