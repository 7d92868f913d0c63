"""What a setting is worth: one recipe in several variants, each with several seeds, scored on the same text.

python recipes/compare.py recipes/multi30k_en_de_transformer.toml --set train.epochs=16 train.minutes=none \\
    --test data/multi30k/test_2016_flickr.{en,de} --seeds 1 2 3 --variant plain --variant drop train.r_drop=5

Prints a Markdown table with the mean and the range over the seeds. What is complete is not trained again: the same
command goes on where it was stopped, with more seeds or variants too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seqkit import Translator, config
from seqkit.data import read_pairs
from seqkit.errors import SeqkitError
from seqkit.metrics import corpus_scores
from seqkit.runs.session import train
from seqkit.training.display.progress import display


class Reached(NamedTuple):
    """What one run came to."""

    dev: float
    test: float
    minutes: float
    steps: int
    signature: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--variant", nargs="+", action="append", required=True, metavar="WORD", help="NAME KEY=VALUE ..."
    )
    parser.add_argument("--test", nargs="+", required=True, help="parallel text, as in data.train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of the run folders")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all variants")
    arguments = parser.parse_args()
    try:
        test = read_pairs(arguments.test, keep_blank=True)
        rows = []
        for name, *words in arguments.variant:
            runs = [(seed, arguments.out / f"{name}-{seed}") for seed in arguments.seeds]
            results = [
                reached(arguments.recipe, run, [*arguments.set, *words, f"train.seed={seed}"], test.source, test.target)
                for seed, run in runs
            ]
            rows.append((name, words, results))
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print("\n".join(table(rows)))
    return 0


def reached(
    recipe: Path, run: Path, words: Sequence[str], sources: Sequence[str], references: Sequence[str]
) -> Reached:
    """Train (or go on with, or take) one run, and score it."""
    print(run, file=sys.stderr)
    shown = display(terminal=sys.stderr.isatty(), quiet=False, log_seconds=60)
    progress = train(config.load(recipe, words), out=run, display=shown)
    hypotheses = [translation.text for translation in Translator.load(run).translate(sources)]
    (score,) = corpus_scores(hypotheses, [references], metrics=("bleu",))
    dev = float("nan") if progress.best is None else progress.best
    return Reached(dev, score.value, progress.seconds / 60, progress.step, score.signature)


def table(rows: Sequence[tuple[str, Sequence[str], Sequence[Reached]]]) -> Iterator[str]:
    """The rows with the scores' means and ranges."""
    yield "| variant | settings | test | development, greedy | steps | minutes |"
    yield "|---|---|---|---|---|---|"
    for name, words, results in rows:
        dev, test = [result.dev for result in results], [result.test for result in results]
        minutes, steps = [result.minutes for result in results], [result.steps for result in results]
        settings = " ".join(f"`{word}`" for word in words)
        cells = [
            name,
            settings,
            spread(test),
            spread(dev),
            f"{statistics.mean(steps):.0f}",
            f"{statistics.mean(minutes):.0f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"sacreBLEU, {', '.join(sorted({each.signature for _, _, found in rows for each in found}))}"


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
