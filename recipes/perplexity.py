"""Language models of one text, start to end: count n-grams, train a network, mix them, and compare.

python data_scripts/ptb.py --from DIR --out data/ptb
python recipes/perplexity.py recipes/ptb_ngram.toml recipes/ptb_lstm_small.toml --minutes 5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seqkit import config
from seqkit.errors import SeqkitError
from seqkit.inference.evaluation import ScoringOptions, score_files
from seqkit.runs.session import train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path, help="models of the same text with the same tokens")
    parser.add_argument("--test", help="the text to score; default: the development text of the first recipe")
    parser.add_argument("--cache", type=int, default=500, help="tokens that the cache of the mixture remembers")
    parser.add_argument("--minutes", type=float, help="training time of each network; default: the recipe's")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the run folders")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings for all models")
    arguments = parser.parse_args()
    try:
        compare(arguments)
    except SeqkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def compare(arguments: argparse.Namespace) -> None:
    """Train each model, then print a row for each of them and for their mixture."""
    words = [*arguments.set, *([] if arguments.minutes is None else [f"train.minutes={arguments.minutes}"])]
    recipes = [config.load(path, words) for path in arguments.recipes]
    dev = recipes[0].data.dev
    test = [arguments.test] if arguments.test else list(dev)
    runs = [arguments.out / recipe.name for recipe in recipes]
    for recipe, run in zip(recipes, runs, strict=True):
        train(recipe, out=run)
    print(f"{'model':40} {'per word':>10} {'bits/char':>10}   context")
    for run in runs:
        row([run], test, ScoringOptions(), run.name)
    tuned = f"tune:{dev[0]}"
    row(runs[:1], test, ScoringOptions(weights=tuned, cache=arguments.cache), f"{runs[0].name} and a cache")
    if len(runs) > 1:
        row(runs, test, ScoringOptions(weights=tuned), "mixed")
        row(runs, test, ScoringOptions(weights=tuned, cache=arguments.cache), "mixed, with a cache")


def row(runs: list[Path], test: list[str], options: ScoringOptions, name: str) -> None:
    """Score and print."""
    scored = score_files(runs, test, options)
    figures = scored.figures
    print(f"{name:40} {figures.per_word:10.2f} {figures.bits_per_character:10.4f}   {scored.mixture or scored.context}")


if __name__ == "__main__":
    sys.exit(main())
