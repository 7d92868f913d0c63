"""The live panel of a training run: a few lines at the bottom of a terminal, redrawn in place."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from seqkit.system.terminal import escape
from seqkit.training.display.snapshot import Sample, Snapshot, duration, short

__all__ = ["Panel", "panel_lines"]

REDRAW_SECONDS = 0.25
HEIGHT = 16  # lines at most
GAP = "  "
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*#%"
CHARTED = 24  # columns of the loss curve
LISTED = 5  # validations shown


class _Console(Console):
    """Where the library would end the process, when the terminal went away, the run goes on unseen."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Panel:
    """Shows a run on a terminal, at most four redraws a second; its last state stays in the scrollback."""

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or _Console(stderr=True, highlight=False)
        self._clock = clock
        self._live: Live | None = None
        self._drawn = -math.inf
        self._last: Snapshot | None = None

    def started(self, summary: Sequence[str]) -> None:
        """Print what is going to happen, above the panel."""
        for line in summary:
            self.message(line)

    def message(self, text: str) -> None:
        """Print something that a person should know, above the panel."""
        with contextlib.suppress(OSError):  # a terminal that went away must not end the run
            for line in text.splitlines():
                self._console.print(Text(escape(line)))

    def update(self, snapshot: Snapshot) -> None:
        """Show a newer state, unless one was shown a moment ago."""
        self._last = snapshot
        if self._clock() - self._drawn >= REDRAW_SECONDS:
            self._draw(snapshot, running=True)

    def validated(self, snapshot: Snapshot) -> None:
        """Show the state after a validation; the next moment's `update` shows it if this one is too early."""
        self.update(snapshot)

    def close(self) -> None:
        """Draw the last state and leave it standing; the terminal is as it was before."""
        if self._live is not None and self._last is not None:
            self._draw(self._last, running=False)
            with contextlib.suppress(OSError):
                self._live.stop()
        self._live = self._last = None

    def _draw(self, snapshot: Snapshot, *, running: bool) -> None:
        size = self._console.size
        ascii_only = self._console.options.ascii_only
        lines = panel_lines(snapshot, width=size.width, height=size.height, ascii_only=ascii_only, running=running)
        self._drawn = self._clock()
        with contextlib.suppress(OSError):
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
                self._live.start()
            self._live.update(Group(*lines), refresh=True)


def panel_lines(
    snapshot: Snapshot, *, width: int, height: int, ascii_only: bool = False, running: bool = True
) -> list[Text]:
    """The panel for a terminal of this many columns and rows: lines no wider than it, and fewer than its rows.

    Where room is short, samples go first, then the curves.
    """
    lines = [
        *_flow(_heading(snapshot), width),
        *_flow([*_progress(snapshot, ascii_only), *_numbers(snapshot)], width),
        *_flow(_history(snapshot, ascii_only), width),
        *(line for sample in snapshot.samples for line in _sample(sample)),
    ]
    footer = [Text("Ctrl-C: save and stop", style="dim")] if running else []
    room = max(2, min(HEIGHT, height - 1)) - len(footer)
    lines = [*lines[:room], *footer]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis" if not ascii_only else "crop")
    return lines


def _flow(fields: Iterable[Text], width: int) -> list[Text]:
    """Fields side by side, on as many lines as they need."""
    lines: list[Text] = []
    for field in fields:
        if lines and lines[-1].cell_len + len(GAP) + field.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], GAP, field)
        else:
            lines.append(field)
    return lines


def _field(label: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{label} ", "dim"), (escape(value), style))


def _heading(snapshot: Snapshot) -> list[Text]:
    of = f"/{snapshot.epochs_total}" if snapshot.epochs_total is not None else ""
    words = [snapshot.model, snapshot.device, snapshot.precision]
    return [
        Text(escape(snapshot.run), style="bold"),
        *(Text(escape(word)) for word in words),
        _field("epoch", f"{snapshot.epoch:.1f}{of}"),
        Text(duration(snapshot.elapsed)),
        *([_field("ETA", duration(snapshot.eta))] if snapshot.eta is not None else []),
    ]


def _progress(snapshot: Snapshot, ascii_only: bool) -> list[Text]:
    if snapshot.steps_total is None:
        return [_field("step", str(snapshot.step), "bold")]
    done = min(1.0, snapshot.step / max(1, snapshot.steps_total))
    full, empty = ("#", "-") if ascii_only else ("━", "─")
    filled = round(done * CHARTED)
    bar = Text.assemble((full * filled, "green"), (empty * (CHARTED - filled), "dim"))
    return [_field("step", f"{snapshot.step}/{snapshot.steps_total}", "bold"), bar]


def _numbers(snapshot: Snapshot) -> list[Text]:
    return [
        _field("loss", short(snapshot.loss), "bold"),
        _field("ppl", short(snapshot.perplexity)),
        _field("lr", f"{snapshot.rate:.1e}"),
        _field("tok/s", short(snapshot.tokens_per_second)),
        _field("pad", f"{100 * snapshot.padding:.0f}%"),
        _field("|g|", short(snapshot.gradient_norm)),
    ]


def _history(snapshot: Snapshot, ascii_only: bool) -> list[Text]:
    fields = []
    if snapshot.losses:
        fields.append(_field("train loss", _curve(snapshot.losses, ASCII_BLOCKS if ascii_only else BLOCKS), "cyan"))
    if snapshot.scores:
        score = _listing(snapshot.scores)
        if snapshot.best_score is not None:
            score += f" (best {short(snapshot.best_score)} @ {snapshot.best_step})"
        fields.append(_field(f"dev {escape(snapshot.metric)}", score))
    if snapshot.perplexities:
        fields.append(_field("dev ppl", _listing(snapshot.perplexities)))
    if snapshot.saved_step is not None:
        ago = f" ({duration(snapshot.saved_ago)} ago)" if snapshot.saved_ago is not None else ""
        fields.append(_field("saved", f"step {snapshot.saved_step}{ago}"))
    trouble = "yellow" if snapshot.skipped or snapshot.out_of_memory else ""
    return [
        *fields,
        _field("skipped", str(snapshot.skipped), trouble),
        _field("oom", str(snapshot.out_of_memory), trouble),
    ]


def _listing(values: Sequence[float]) -> str:
    return " ".join(short(value) for value in values[-LISTED:])


def _curve(values: Sequence[float], blocks: str) -> str:
    """A line of blocks whose height follows the values; what is not finite stands highest."""
    bins = min(CHARTED, len(values))
    picked = [values[(index + 1) * len(values) // bins - 1] for index in range(bins)]
    finite = [value for value in picked if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    span = high - low if 0 < high - low < math.inf else 1.0
    scaled = ((value - low) / span if math.isfinite(value) else 1.0 for value in picked)
    return "".join(blocks[min(len(blocks) - 1, int(min(1.0, max(0.0, share)) * len(blocks)))] for share in scaled)


def _sample(sample: Sample) -> list[Text]:
    exact = sample.hypothesis == sample.reference
    hypothesis = _field("        hyp", sample.hypothesis)
    return [
        _field("sample  src", sample.source),
        _field("        ref", sample.reference),
        Text.assemble(hypothesis, GAP, ("exact", "green")) if exact else hypothesis,
    ]
