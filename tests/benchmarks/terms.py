"""Terms that must appear: how many are there, and what they cost.

    python tests/benchmarks/terms.py runs/t test.en test.de

Each of 200 lines is given one to three words of its reference, in turns without and with them.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from pathlib import Path

import torch
from measuring import Row, print_rows, row_of

from seqkit.data import read_lines
from seqkit.inference.glossary import Glossary
from seqkit.inference.translation import Line
from seqkit.inference.translator import Translator

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    translator = Translator.load(arguments.run, device="cpu")
    pairs = list(zip(read_lines(arguments.source), read_lines(arguments.reference), strict=True))[:200]
    for count in (1, 2, 3):
        lines = [with_terms(source, reference, count, seed) for seed, (source, reference) in enumerate(pairs)]
        print_rows(f"200 lines with {count} term(s) each", measured(translator, lines), baseline="without")


def with_terms(source: str, reference: str, count: int, seed: int) -> Line:
    """The line and so many words of its reference, each tied to some word of the source."""
    chance = random.Random(seed)
    words = sorted(set(re.findall(r"\w+", reference)))
    terms = sorted(set(re.findall(r"\w+", source)))
    chosen = chance.sample(words, min(count, len(words), len(terms)))
    return Line(
        source,
        glossary=Glossary(
            {term: (word,) for term, word in zip(chance.sample(terms, len(chosen)), chosen, strict=True)}
        ),
    )


def measured(translator: Translator, lines: list[Line]) -> list[Row]:
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        list(translator.translate([line.text for line in lines]))
        middle = time.perf_counter()
        translations = list(translator.translate(lines))
        seconds["without"].append(middle - began)
        seconds["with"].append(time.perf_counter() - middle)
    missing = sum(len(translation.missing) for translation in translations)
    asked = sum(len(line.glossary.entries) for line in lines if line.glossary)
    notes = {"without": "", "with": f"{asked - missing} of {asked} terms are in the text"}
    return [
        row_of(name, [1e3 * value for value in values], unit="ms", note=notes[name]) for name, values in seconds.items()
    ]


if __name__ == "__main__":
    main()
