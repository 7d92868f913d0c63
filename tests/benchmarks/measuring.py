"""What the benchmarks share: real text if it is there, measuring, and printing as a table and as JSON."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from seqkit.demo import numbers

__all__ = ["Row", "peak_memory", "print_rows", "rate_of", "text_of"]


@dataclass
class Row:
    """One measured system."""

    system: str
    value: float  # median
    low: float  # tenth percentile
    high: float  # ninetieth percentile
    unit: str
    memory: float = 0.0  # MiB, the largest resident size of its processes
    note: str = ""


def text_of(folder: Path) -> tuple[list[str], list[str]]:
    """Multi30k's training pairs from a folder with train.en and train.de, or else generated pairs."""
    if (folder / "train.en").exists():
        from seqkit.data import read_pairs

        text = read_pairs([str(folder / "train.{en,de}")])
        return text.source, text.target
    pairs = numbers(20000, seed=1)
    return [source for source, _ in pairs], [target for _, target in pairs]


def rate_of(step: Callable[[], int], *, seconds: float) -> Iterator[float]:
    """Run `step`, which says how many units it did, for a while: units per second of each call."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        units = step()
        yield units / (time.perf_counter() - began)


def row_of(system: str, rates: list[float], *, unit: str, memory: float = 0.0, note: str = "") -> Row:
    """Median and spread of many rates."""
    ordered = sorted(rates)
    tenth = len(ordered) // 10
    return Row(system, statistics.median(ordered), ordered[tenth], ordered[-1 - tenth], unit, memory, note)


def peak_memory() -> float:
    """The largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_rows(title: str, rows: list[Row], *, baseline: str) -> None:
    """The table, with every value as a ratio to the baseline, and one line of JSON."""
    print(f"\n{title}")
    base = next((row.value for row in rows if row.system == baseline), None)
    for row in rows:
        ratio = f"{row.value / base:5.2f}x" if base else "      "
        memory = f"{row.memory:6.0f} MiB" if row.memory else ""
        spread = f"[{row.low:.0f}, {row.high:.0f}]"
        print(f"  {row.system:34} {row.value:9.0f} {row.unit:9} {spread:18} {ratio} {memory} {row.note}")
    print(json.dumps({"title": title, "rows": [asdict(row) for row in rows]}))
