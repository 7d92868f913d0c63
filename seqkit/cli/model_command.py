"""`seqkit model`: the contents of a run or model folder, and the mean of a run's checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from seqkit.cli.main import SuggestingGroup, common, suggest_next
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.runs.trained_model import TrainedModel

__all__ = ["command"]


@click.group(cls=SuggestingGroup, no_args_is_help=False)
def command() -> None:
    """Look at trained models, and make one of several.

    \b
    seqkit model info runs/en-de
    seqkit model average runs/en-de -o averaged --last 5
    """


@command.command()
@click.argument("model", metavar="RUN", type=click.Path(path_type=Path))
def info(model: Path) -> None:
    """Say what a run folder or model folder holds, and whether its files are whole.

    \b
    seqkit model info runs/en-de

    Everything is verified by its checksum; nothing in the folder is executed.
    """
    from seqkit.runs.trained_model import load
    from seqkit.storage import checkpoint, status

    progress = status.read(model)
    if progress is not None:  # first, because a run that ended before its first checkpoint has nothing else
        click.echo(f"{'run':12}{escape(progress.text())}")
    loaded = load(model)
    for name, value in _facts(loaded):
        click.echo(f"{name:12}{escape(value)}")
    folder = model / "checkpoints"
    if folder.is_dir():
        best = checkpoint.best(folder)
        for step in checkpoint.steps(folder):
            problem = checkpoint.verify(checkpoint.step_path(folder, step))
            mark = f"  best: {escape(best.metric)} {best.score:.4g}" if best is not None and best.step == step else ""
            click.echo(f"{'checkpoint':12}step {step}  {'whole' if problem is None else escape(problem)}{mark}")


@command.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--output", "out", required=True, type=click.Path(path_type=Path), help="The new model folder.")
@click.option("--last", type=click.IntRange(min=2), help="So many of the newest.  [default: all that are kept]")
@click.option("--steps", metavar="N,N", help="Those of these steps.")
def average(run: Path, out: Path, last: int | None, steps: str | None) -> None:
    """Write the mean of the weights of several checkpoints of a run as a model folder.

    \b
    seqkit train recipe.toml --out runs/en-de train.keep=8
    seqkit model average runs/en-de -o averaged --last 5
    seqkit evaluate averaged test.tsv
    """
    from seqkit.errors import ConfigError
    from seqkit.runs.averaging import average as mean_of

    words = steps.split(",") if steps else []
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigError(f"--steps are numbers with commas between, not {steps}", "write --steps 1000,2000")
    if words and last is not None:
        raise ConfigError("--last and --steps exclude each other", "give one of them")
    used = mean_of(run, out, last=last, steps=[int(word) for word in words])
    if not common().quiet:
        click.echo(f"{escape(str(out))}: the mean of steps {', '.join(map(str, used))}", err=True)
    suggest_next(f"seqkit evaluate {out} TEST")


def _facts(loaded: TrainedModel) -> list[tuple[str, str]]:
    import msgspec

    from seqkit.settings import Pairs

    recipe, codecs, model = loaded.recipe, loaded.codecs, loaded.model
    settings = {name: value for name, value in msgspec.to_builtins(recipe.model).items() if name != "kind"}
    # A counted model has no parameters; its buffers are its size.
    tensors = model.parameters() if recipe.model.trained else model.state_dict().values()
    size = sum(tensor.numel() for tensor in tensors)
    rows = [
        ("model", f"{msgspec.to_builtins(recipe.model)['kind']}, {size:,} parameters"),
        ("settings", ", ".join(f"{name}={value}" for name, value in settings.items())),
        ("text", f"{type(recipe.text).__name__}, {len(codecs.target)} tokens" + (", joint" if codecs.joint else "")),
    ]
    if isinstance(recipe.data, Pairs):
        rows.insert(0, ("languages", f"{recipe.data.source}-{recipe.data.target}"))
    names = [("step", "step"), ("score", "score"), ("metric", "metric"), ("mean of", "mean_of")]
    return [*rows, *((name, str(loaded.facts[key])) for name, key in names if loaded.facts.get(key) is not None)]
