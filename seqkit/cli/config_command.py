"""`seqkit config`: show, list and compare settings."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.cli.main import SuggestingGroup
from seqkit.config import build, difference, dump, load
from seqkit.errors import ConfigError, closest
from seqkit.settings import Recipe, toml
from seqkit.settings.schema import Key, keys
from seqkit.system.terminal import escape

__all__ = ["command"]

EXAMPLE = {"data": {"train": ["data/train.en", "data/train.de"]}}  # the only setting without a default

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=SuggestingGroup, no_args_is_help=False)
def command() -> None:
    """Show, list and compare settings.

    \b
    seqkit config keys train
    seqkit config show recipe.toml model.width=256
    seqkit config diff runs/first runs/second
    """


@command.command(cls=files.Command)
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@files.settings
@as_json
def show(recipe: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print all the settings of a recipe or run.

    Without a RECIPE: one to begin with.

    \b
    seqkit config show recipe.toml
    seqkit config show runs/en-de train.steps=20000
    seqkit config show > recipe.toml
    """
    settings = _read(recipe, overrides) if recipe else build(EXAMPLE, where="command line", overrides=overrides)
    _print(msgspec.json.encode(settings).decode() if as_json else dump(settings).removesuffix("\n"))


@command.command("keys")
@click.argument("prefix", default="")
@as_json
def list_keys(prefix: str, as_json: bool) -> None:
    """List every setting, or those under PREFIX.

    One that several kinds of its section have stands once for each, with the kind beside it.

    \b
    seqkit config keys
    seqkit config keys train.optimizer
    seqkit config keys model --json
    """
    every = keys()
    chosen = [key for key in every if _under(key.path, prefix)]
    if not chosen:
        parts = {key.path for key in every} | {key.path.rpartition(".")[0] for key in every} - {""}
        near = closest(prefix, sorted(parts))
        raise ConfigError(f"no setting begins with {prefix}", f"did you mean {near}?" if near else "seqkit config keys")
    if as_json:
        click.echo(msgspec.json.encode([key._asdict() for key in chosen]).decode())
    else:
        _print_table([Key("SETTING", "KIND", "TYPE", "DEFAULT", "MEANING"), *chosen])


@command.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@as_json
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Print the settings in which two recipes or runs differ.

    \b
    seqkit config diff runs/first runs/second
    seqkit config diff recipe.toml runs/first --json
    """
    differences = difference(_read(old), _read(new))
    if as_json:
        rows = [{"setting": path, "old": before, "new": after} for path, before, after in differences]
        _print(msgspec.json.encode(rows).decode())
        return
    for path, before, after in differences:
        _print("\t".join([path, *("none" if value is None else toml.write(value) for value in (before, after))]))


def _print(text: str) -> None:
    """Print text from recipes, with control characters escaped on a terminal, where they could forge other lines."""
    click.echo("\n".join(map(escape, text.split("\n"))) if sys.stdout.isatty() else text)


def _read(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe in a file or in a run's folder."""
    return load(path / "recipe.toml" if path.is_dir() else path, overrides)


def _under(path: str, prefix: str) -> bool:
    return not prefix or f"{path}.".startswith(f"{prefix.rstrip('.')}.")


def _print_table(rows: list[Key]) -> None:
    cells = [(key.path, key.kind or "", key.type, key.default, key.description) for key in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*padded, row[4]]))
