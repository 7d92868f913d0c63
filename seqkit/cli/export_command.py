"""`seqkit export`: convert a trained model for other tools, and check that they agree with ours."""

from __future__ import annotations

from pathlib import Path

import click

from seqkit.cli.main import SuggestingGroup, common

__all__ = ["command"]

QUANTIZATIONS = ["float32", "float16", "bfloat16", "int16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"]

model = click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
overwrite = click.option("--overwrite", is_flag=True, help="Replace an export that is in DIR.")


@click.group(cls=SuggestingGroup, no_args_is_help=False)
def command() -> None:
    """Convert a trained translation model for other tools.

    \b
    seqkit export ct2 runs/en-de en-de.ct2
    seqkit export marian runs/en-de en-de.marian

    Twenty sentences are then translated and scored with both; a conversion that differs is refused, and so is a model
    of a kind that the other tool does not have.
    """


@command.command()
@model
@folder
@click.option(
    "--quantization",
    type=click.Choice(QUANTIZATIONS),
    default="float32",
    show_default=True,
    help="How weights are stored; what that changes is told.",
)
@overwrite
def ct2(model: Path, folder: Path, quantization: str, overwrite: bool) -> None:
    """Convert a Transformer for CTranslate2, which translates fast on processors and GPUs.

    \b
    seqkit export ct2 runs/en-de en-de.ct2
    seqkit export ct2 runs/en-de en-de.int8 --quantization int8

    DIR/README.txt shows how to translate with it.
    """
    from seqkit.exchange.ct2 import export_ct2

    exact, quantised = export_ct2(model, folder, quantization=quantization, overwrite=overwrite)
    _report(f"{folder}: {exact}")
    if quantised is not None:
        _report(f"{quantization}: {quantised}")


@command.command()
@model
@folder
@overwrite
def marian(model: Path, folder: Path, overwrite: bool) -> None:
    """Convert a Transformer for MarianMTModel of Hugging Face transformers.

    \b
    seqkit export marian runs/en-de en-de.marian

    Only models with model.norm="post", sinusoidal positions and relu or gelu fit. DIR/README.txt shows how to translate
    with it.
    """
    from seqkit.exchange.marian import export_marian

    _report(f"{folder}: {export_marian(model, folder, overwrite=overwrite)}")


def _report(text: str) -> None:
    if not common().quiet:
        click.echo(text, err=True)
