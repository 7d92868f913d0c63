"""What a display shows of a run at one moment, and the words and numbers in which it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Sample", "Snapshot", "duration", "plain_line", "short"]


class Sample(NamedTuple):
    """A development sentence and what the model makes of it now."""

    source: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a run as numbers and words; whatever is not known yet is None or empty."""

    run: str
    model: str  # "transformer 1.2 M"
    device: str  # "cpu x4"
    precision: str  # "fp32"
    step: int
    steps_total: int | None = None
    epoch: float  # passes over the data so far, with fraction
    epochs_total: int | None = None
    elapsed: float  # seconds, earlier attempts included
    eta: float | None = None  # seconds to go
    loss: float  # nats per token
    perplexity: float
    rate: float  # learning rate
    tokens_per_second: float  # target tokens
    padding: float  # share of the positions computed, 0 to 1
    gradient_norm: float
    losses: tuple[float, ...] = ()  # training loss, oldest first
    metric: str = "BLEU"  # the development score's name
    scores: tuple[float, ...] = ()  # of the validations, oldest first
    perplexities: tuple[float, ...] = ()  # of the validations, oldest first
    best_score: float | None = None
    best_step: int | None = None
    saved_step: int | None = None
    saved_ago: float | None = None  # seconds
    skipped: int = 0  # batches left out
    out_of_memory: int = 0  # batches that had to be split
    samples: tuple[Sample, ...] = ()


def duration(seconds: float) -> str:
    """Seconds as `0:01:23`, with days before it where there are any."""
    if not abs(seconds) < 1e12:  # not finite, or no duration at all
        return "?"
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"


def short(number: float) -> str:
    """A number in a few characters: `0.412`, `93.2`, `18.3k`, `1.2M`."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if factor <= abs(number) < 1e12:
            return f"{number / factor:.3g}{unit}" if abs(number) < 999.5 * factor else f"{number / factor:.0f}{unit}"
    return f"{number:.3g}"


def plain_line(snapshot: Snapshot, *, validated: bool = False) -> str:
    """One line of `key=value` words, for logs, grep and awk; after a validation with its scores."""
    words = [
        f"step={snapshot.step}",
        f"epoch={snapshot.epoch:.1f}",
        f"loss={snapshot.loss:.4g}",
        f"ppl={snapshot.perplexity:.4g}",
        f"lr={snapshot.rate:.1e}",
        f"tok/s={snapshot.tokens_per_second:.6g}",
    ]
    if snapshot.eta is not None:
        words.append(f"eta={snapshot.eta:.0f}s" if abs(snapshot.eta) < 1e9 else f"eta={snapshot.eta:.3g}s")
    if validated:
        if snapshot.perplexities:
            words.append(f"dev_ppl={snapshot.perplexities[-1]:.4g}")
        if snapshot.scores:
            name = "".join(filter(str.isalnum, snapshot.metric))[:20].lower()
            words.append(f"dev_{name}={snapshot.scores[-1]:.4g}")
        if snapshot.best_score is not None:
            words.append(f"best={snapshot.best_score:.4g}@{snapshot.best_step}")
    return " ".join(words)
