"""`seqkit train`: train a model, or go on with a run; signals stop it at a step and save."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from seqkit import config
from seqkit.cli import file_arguments as files
from seqkit.cli.main import common, suggest_next
from seqkit.errors import ConfigError
from seqkit.settings import Recipe

if TYPE_CHECKING:
    from seqkit.training.callbacks import StopRequest

__all__ = ["command", "stopped_by_signals"]


@click.command(cls=files.Command)
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@files.option("--train", help="Training text: a source and its target file, or TSV; then more of them.")
@files.option("--dev", help="Development text, validated on while training.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/NAME]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--overwrite", is_flag=True, help="Throw away a run that is in the folder, and start anew.")
@click.option("--allow-data-change", is_flag=True, help="Go on with changed text: the epoch begins anew.")
@click.option("--reset-best", is_flag=True, help="Forget the best score so far, and the patience used up.")
@click.option("--extend", is_flag=True, help="Go on with another limit, though the rate falls towards the old one.")
@files.settings
def command(
    recipe: Path | None,
    train: tuple[str, ...],
    dev: tuple[str, ...],
    out: Path | None,
    device: str,
    overwrite: bool,
    allow_data_change: bool,
    reset_best: bool,
    extend: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train a model, or go on where training stopped: by the same command.

    \b
    seqkit train recipes/multi30k_en_de_transformer.toml --out runs/t
    seqkit train recipe.toml model.width=256 train.minutes=20
    seqkit train --train data/train.{en,de} --dev data/dev.{en,de} --out run train.epochs=10

    `seqkit config keys` lists all settings.
    """
    resolved = _recipe(recipe, train, dev, overrides)

    from seqkit.runs.folder import out_of
    from seqkit.runs.session import train as run_training
    from seqkit.system.host import process_age
    from seqkit.training.callbacks import StopRequest
    from seqkit.training.display.progress import display

    progress = display(terminal=sys.stderr.isatty(), quiet=common().quiet, log_seconds=resolved.train.log_seconds)
    request = StopRequest()
    follower = int(os.environ.get("RANK", "0")) > 0 and "SEQKIT_LAUNCHED" in os.environ
    with stopped_by_signals(request, ignore=follower):
        run_training(
            resolved,
            out=out,
            device=device,
            overwrite=overwrite,
            allow_data_change=allow_data_change,
            reset_best=reset_best,
            extend=extend,
            display=progress,
            request=request,
            age=process_age(),
        )
    run = out_of(resolved, out)
    suggest_next(f"seqkit translate {run}")


def _recipe(recipe: Path | None, train: tuple[str, ...], dev: tuple[str, ...], overrides: tuple[str, ...]) -> Recipe:
    given = {"train": list(train), "dev": list(dev)}
    if recipe is None:
        if not train:
            raise ConfigError("nothing to train", "give a recipe, or --train SOURCE TARGET")
        return config.build({"data": {"kind": "pairs", **given}}, where="command line", overrides=overrides)
    words = [f"data.{name}={_toml_list(value)}" for name, value in given.items() if value]
    return config.load(recipe, [*words, *overrides])


def _toml_list(words: list[str]) -> str:
    import msgspec

    return msgspec.json.encode(words).decode()  # a JSON list of strings is a TOML list too


@contextlib.contextmanager
def stopped_by_signals(request: StopRequest, *, ignore: bool = False) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a request to stop, SIGUSR1 into one to save; a second SIGINT aborts.

    With `ignore` signals do nothing: in a process group the first process decides for all.
    """
    saving = getattr(signal, "SIGUSR1", None)  # not on every system

    def handle(number: int, _: FrameType | None) -> None:
        if ignore:
            return
        if number == saving:
            request.save = True
            return
        if request.reason is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        request.reason, request.signal = signal.Signals(number).name, number
        click.echo("\nstopping after this step, saving ... (Ctrl-C again to abort)", err=True)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, saving) if number}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
