"""`seqkit perplexity`: how well models predict a text, with the counts and the context behind each figure."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.errors import ConfigError
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.evaluation import ScoredText

__all__ = ["command"]


@click.command(cls=files.Command)
@click.argument("model")
@files.argument("test")
@click.option("--context", metavar="lines|whole|N", help="What is scored together  [default: as it was trained]")
@click.option("--overlap", type=click.IntRange(min=0), help="Tokens of a block of N that are read, not counted.")
@click.option("--weights", metavar="W,...|tune:FILE", help="Of RUN+RUN and the cache; or the text to tune them on.")
@click.option("--cache", type=click.IntRange(min=1), metavar="N", help="Mix in a cache of the last N tokens.")
@click.option("--flatness", type=float, metavar="X", help="How sharply the cache looks  [default: tuned, or 0.3]")
@click.option("--dynamic", type=float, metavar="RATE", help="Go on learning from what was scored, at this rate.")
@click.option("--per-line", is_flag=True, help="Print a TSV row for each line; the figures go to stderr.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=4096, show_default=True, help="Scored at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
def command(
    model: str,
    test: tuple[str, ...],
    context: str | None,
    overlap: int | None,
    weights: str | None,
    cache: int | None,
    flatness: float | None,
    dynamic: float | None,
    per_line: bool,
    batch_tokens: int,
    as_json: bool,
    device: str,
) -> None:
    """Score a text by a language model, or translations by a translation model.

    \b
    seqkit perplexity runs/lstm data/valid.txt
    seqkit perplexity runs/lstm+runs/5gram test.txt --cache 500 --weights tune:data/valid.txt
    seqkit perplexity runs/en-de data/test.{en,de}

    Figures per word, character and byte compare any models of the same text; those per token only models with the same
    tokens. Each line's end counts as a token, a word, a character and a byte. Caches, dynamic evaluation and mixtures
    are named beside the figure.
    """
    from seqkit.inference.evaluation import ScoringOptions, score_files

    options = ScoringOptions(
        context=_context(context, overlap),
        weights=weights,
        cache=cache,
        flatness=flatness,
        dynamic=dynamic,
        budget=batch_tokens,
    )
    scored = score_files([Path(path) for path in model.split("+")], test, options, device=device)
    table = "\n".join(_table(scored))
    if per_line:
        click.echo("line\ttokens\tlog_prob\tperplexity")
        for row in scored.lines:
            click.echo(f"{row.number}\t{row.tokens}\t{row.log_prob:.6f}\t{row.perplexity:.6g}")
        click.echo(table, err=True)
    elif as_json:
        results = msgspec.json.encode(_results(scored))
        click.echo(escape(results.decode()) if sys.stdout.isatty() else results)
    else:
        click.echo(table)


def _context(word: str | None, overlap: int | None) -> tuple[str, int | None, int | None] | None:
    """The context as options give it: its kind, a size, an overlap."""
    if word is None:
        if overlap is not None:
            raise ConfigError("--overlap belongs to blocks of tokens", "give their size: --context N")
        return None
    if word in ("lines", "whole"):
        if overlap is not None:
            raise ConfigError(f"--overlap means nothing with --context {word}", "leave it out, or give --context N")
        return word, None, None
    if not word.isdecimal() or int(word) < 1:
        raise ConfigError(f"--context {word} is no context", "give lines, whole or a number of tokens")
    return "blocks", int(word), overlap


def _table(scored: ScoredText) -> list[str]:
    figures = scored.figures
    text = figures.text
    rows = [
        ("model", " + ".join(scored.models)),
        ("text", f"{text.lines} lines, {text.words} words, {text.characters} characters, {text.bytes} bytes"),
        ("tokens", f"{figures.tokens}, {100 * figures.unknown_share:.2f} % of them unknown to the model"),
        ("perplexity", f"{figures.per_token:.4f} a token, {figures.per_word:.4f} a word"),
        (
            "entropy",
            f"{figures.bits_per_character:.4f} bits a character ({figures.nats_per_character:.4f} nats), "
            f"{figures.bits_per_byte:.4f} bits a byte",
        ),
        ("context", scored.context),
        *([("mixture", scored.mixture)] if scored.mixture else []),
        *([("dynamic", scored.dynamic)] if scored.dynamic else []),
        *(("note", note) for note in scored.notes),
    ]
    return [f"{name:<11}{escape(value)}" for name, value in rows]


def _results(scored: ScoredText) -> dict[str, object]:
    figures = scored.figures
    return {
        "models": list(scored.models),
        "tokens": figures.tokens,
        "unknown": figures.unknown,
        **dataclasses.asdict(figures.text),
        "nll": figures.nll,
        "perplexity_per_token": figures.per_token,
        "perplexity_per_word": figures.per_word,
        "bits_per_character": figures.bits_per_character,
        "nats_per_character": figures.nats_per_character,
        "bits_per_byte": figures.bits_per_byte,
        "context": scored.context,
        "weights": scored.weights,
        "mixture": scored.mixture or None,
        "dynamic": scored.dynamic or None,
        "notes": scored.notes,
    }
