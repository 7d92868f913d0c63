"""What each host setting is worth: training throughput with all of them, and with each one turned off.

    python tests/benchmarks/host.py [--size tiny base rnn lstm_lm] [--rounds 5] [--seconds 20] [--data data/multi30k]

Prints a Markdown table: tokens a second with all settings on, and what is left of that (median over the rounds) without
each. The variants take turns within a round, each in fresh processes, for a heap that was kept stays kept. Models,
batches and text are those of `train.py`. Run it on an otherwise idle machine; it takes rounds x seconds x 9 a size, and
as much again for starting.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measuring import text_of
from train import LANGUAGE, SIZES, child, recipe_of

from seqkit.tasks import prepare

ALL = "all on"
WIDE = ("train.precision=float32", "train.output_precision=float32")
# What a variant changes: settings of the recipe, and of the environment.
VARIANTS: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    ALL: ((), {}),
    "without kept heap": (("train.keep_heap=false",), {}),
    "one process, all threads": (("train.processes=1",), {}),
    "the same, waiting passively": (("train.processes=1",), {"OMP_WAIT_POLICY": "PASSIVE"}),
    "the same, waiting briefly": (("train.processes=1",), {"GOMP_SPINCOUNT": "1000"}),
    "without cheap dropout": (("train.cheap_dropout=false",), {}),
    "without fused optimizer": (("train.fused_optimizer=false",), {}),
    "without bfloat16": (WIDE, {}),
    "all off": (
        (
            "train.keep_heap=false",
            "train.processes=1",
            "train.cheap_dropout=false",
            "train.fused_optimizer=false",
            *WIDE,
        ),
        {},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), help="these variants, beside all on")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="of each variant in each round")
    parser.add_argument("--data", type=Path, help="default: data/multi30k, and data/ptb for the language model")
    arguments = parser.parse_args()
    names = [name for name in VARIANTS if name == ALL or arguments.only is None or name in arguments.only]
    rates_of_sizes = {size: measured(size, names, arguments) for size in arguments.size}
    print_table(rates_of_sizes, names)
    print(json.dumps({"title": "host settings", "load": os.getloadavg()[0], "rates": rates_of_sizes}))


def measured(size: str, names: list[str], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Tokens a second of each variant in each round: the median over its steps."""
    data = arguments.data or Path("data/ptb" if size == LANGUAGE else "data/multi30k")
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        for name, lines in zip(("train.en", "train.de"), text_of(data), strict=True):
            (files / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        common = {"size": size, "seconds": arguments.seconds, "data": data}
        prepare(recipe_of(argparse.Namespace(**common, set=[]), files), files)  # the text layer, once for all
        for _ in range(arguments.rounds):
            for name in names:
                changed, environment = VARIANTS[name]
                before = {key: os.environ.get(key) for key in environment}
                os.environ.update(environment)
                steps, _memory = child("ours", argparse.Namespace(**common, set=list(changed)), files)
                for key, value in before.items():
                    os.environ.pop(key) if value is None else os.environ.update({key: value})
                rates[name].append(statistics.median(steps))
    return rates


def print_table(rates_of_sizes: dict[str, dict[str, list[float]]], names: list[str]) -> None:
    """One column a size: the rate with all settings, and shares of it, compared within each round."""
    print(f"| | {' | '.join(rates_of_sizes)} |")
    print("|---|" + "---:|" * len(rates_of_sizes))
    whole = (f"{statistics.median(rates[ALL]):,.0f} tokens/s" for rates in rates_of_sizes.values())
    print(f"| {ALL} | {' | '.join(whole)} |")
    for name in names:
        if name != ALL:
            cells = (share(rates[name], rates[ALL]) for rates in rates_of_sizes.values())
            print(f"| {name} | {' | '.join(cells)} |")


def share(rates: list[float], whole: list[float]) -> str:
    ratios = sorted(rate / base for rate, base in zip(rates, whole, strict=True))
    return f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"


if __name__ == "__main__":
    main()
