"""`seqkit label`: a filter from sentences to labels, and its score on labelled files."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.cli.main import common
from seqkit.cli.streams import LineBlocks, input_stream, output_stream, warn
from seqkit.errors import ConfigError
from seqkit.files import decode, sha256
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.labeller import Labeller
    from seqkit.metrics.label_counts import LabelScores, Spans

__all__ = ["command", "table"]

Format = Literal["text", "conll"]


@click.command(cls=files.Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-i", "--input", "source", metavar="FILE", default="-", help="Read this in place of standard input.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write this; it appears when it is complete.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--format", "form", type=click.Choice(["text", "conll"]), default="text", show_default=True)
@files.option("--test", help="Score the model on these labelled files instead.")
@click.option("--json", "as_json", is_flag=True, help="With --test: print the results as JSON.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
def command(
    model: Path,
    source: str,
    output: str,
    overwrite: bool,
    form: Format,
    test: tuple[str, ...],
    as_json: bool,
    device: str,
) -> None:
    """Label the tokens of what is typed, piped in or read from a file with the model of a run folder.

    \b
    seqkit label runs/names < sentences.txt > labels.txt
    seqkit label runs/names -i sentences.txt.gz -o labelled.conll --format conll
    seqkit label runs/names --test test.conll

    A line of the input is a sentence, its tokens parted by white space; its line in the output has a label for each of
    them, and blank lines stay blank. In the format conll each token has a line, with a TAB and its label, and each
    sentence ends in a blank line. --test prints accuracy and, where labels mark spans, precision, recall and F1 as
    conlleval counts them.
    """
    if test and (source, output, form) != ("-", "-", "text"):
        raise ConfigError("--test labels its own files and prints scores", "leave -i, -o and --format out")
    if as_json and not test:
        raise ConfigError("--json prints scores, and there are none", "add --test FILE")
    if test:
        from seqkit.inference.labeller import Labeller

        _test(Labeller.load(model, device=device), test, as_json=as_json)
        return
    with contextlib.ExitStack() as stack:
        # Reading begins before the model is loaded, which takes seconds.
        blocks = LineBlocks(*stack.enter_context(input_stream(source)))
        target = stack.enter_context(output_stream(output, overwrite=overwrite))

        from seqkit.inference.labeller import Labeller

        _filter(Labeller.load(model, device=device), blocks=blocks, target=target, form=form)


def _filter(labeller: Labeller, *, blocks: LineBlocks, target: BinaryIO, form: Format) -> None:
    """Write the labels of each line, as soon as its block is labelled, and print a report at the end."""
    show: Callable[[str], str] = escape if target.isatty() else str  # control characters must not reach a terminal
    number = bad = 0
    seconds = 0.0
    for block in blocks:
        began = time.monotonic()
        decoded = [decode(line) for line in block]
        sentences = [text.split() for text, _ in decoded]
        for tokens, labels, (_, good) in zip(sentences, labeller.label(sentences), decoded, strict=True):
            number += 1
            if not good and not bad and not common().quiet:
                warn(f"line {number} is not UTF-8; such bytes become U+FFFD")
            bad += not good
            names = [show(label) for label in labels]
            if form == "text":
                target.write(f"{' '.join(names)}\n".encode())
            else:
                rows = (f"{show(token)}\t{label}\n" for token, label in zip(tokens, names, strict=True))
                target.write(f"{''.join(rows)}\n".encode())
        target.flush()
        seconds += time.monotonic() - began
    if not common().quiet:
        rate = f"{number / seconds:.0f}" if seconds > 0 else "0"
        unreadable = f", {bad} invalid UTF-8" if bad else ""
        click.echo(f"{number} lines, {seconds:.1f} s, {rate} lines/s{unreadable}", err=True)


def _test(labeller: Labeller, test: Sequence[str], *, as_json: bool) -> None:
    """Label files whose labels are known, and print the scores of the predictions."""
    from seqkit.data.labelled_text import read_labelled
    from seqkit.metrics.label_scores import label_scores

    text = read_labelled(test)
    began = time.monotonic()
    predictions = list(labeller.label(text.tokens))
    seconds = time.monotonic() - began
    scores = label_scores(predictions, text.labels)
    if not as_json:
        click.echo("\n".join(table(scores)))
        if not common().quiet:
            click.echo(
                f"{len(text)} sentences, {seconds:.1f} s, {len(text) / max(seconds, 1e-9):.0f} sentences/s", err=True
            )
        return
    loaded = labeller.loaded
    provenance = {
        **{name: importlib.metadata.version(name) for name in ("seqkit", "torch")},
        "model": str(loaded.path),
        "step": loaded.facts.get("step"),
        "device": str(labeller.device),
        "files": {path: sha256(path) for path in test},
    }
    results = msgspec.json.encode({**_results(scores), "provenance": provenance})
    click.echo(escape(results.decode()) if sys.stdout.isatty() else results)


def _results(scores: LabelScores) -> dict[str, object]:
    return {
        "accuracy": scores.accuracy,
        "tokens": scores.tokens,
        "sentences": scores.sentences,
        **({} if scores.spans is None else {"all": _figures(scores.spans)}),
        "types": {kind: _figures(spans) for kind, spans in scores.types.items()},
        "signature": scores.signature,
    }


def _figures(spans: Spans) -> dict[str, float]:
    return {
        "precision": spans.precision,
        "recall": spans.recall,
        "f1": spans.f1,
        "correct": spans.correct,
        "found": spans.found,
        "expected": spans.expected,
    }


def table(scores: LabelScores) -> list[str]:
    """The scores as lines of a table, one for each type of spans; names from a corpus are escaped."""
    rows = [(escape(kind), spans) for kind, spans in scores.types.items()]
    rows += [] if scores.spans is None else [("all", scores.spans)]
    width = max([9, *(len(kind) for kind, _ in rows)])
    lines = [f"{'spans':{width}}  precision  recall      F1  in the references"] if rows else []
    for kind, spans in rows:
        figures = f"{spans.precision:9.2f}  {spans.recall:6.2f}  {spans.f1:6.2f}  {spans.expected:17}"
        lines.append(f"{kind:{width}}  {figures}")
    share = f"{scores.accuracy:.2f} % of {scores.tokens} tokens"
    return [*lines, f"{'accuracy':{width}}  {share}", f"{'signature':{width}}  {scores.signature}"]
