"""`seqkit score`: the log-probability of given lines, or of given translations of lines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from seqkit.cli import file_arguments as files
from seqkit.system.terminal import escape

__all__ = ["command"]


@click.command(cls=files.Command)
@click.argument("model", type=click.Path(path_type=Path))
@files.argument("test")
@click.option("--tokens", is_flag=True, help="Also print each token with its log-probability.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
def command(model: Path, test: tuple[str, ...], tokens: bool, device: str) -> None:
    """Print the log-probability of every line, in nats, its end included.

    \b
    seqkit score runs/lstm lines.txt
    seqkit score runs/en-de source.en target.de

    A row a line: log-probability, number of tokens, perplexity, and the text. A model of a stream of text scores each
    line after those before it, one of lines each line alone, a translation model each target given its source.
    """
    from seqkit.inference.evaluation import ScoringOptions, score_files

    scored = score_files([model], test, ScoringOptions(blank=True), device=device)
    plain = not sys.stdout.isatty()
    for line in scored.lines:
        text = line.text if plain else escape(line.text)
        click.echo(f"{line.log_prob:.6f}\t{line.tokens}\t{line.perplexity:.6g}\t{text}")
        if tokens:
            for token, value in zip(line.pieces, line.log_probs, strict=True):
                click.echo(f"\t{value:.6f}\t{token if plain else escape(token)}")
