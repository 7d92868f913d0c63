"""`seqkit demo`: train and use a model on a built-in corpus."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seqkit import config
from seqkit.cli.label_command import table
from seqkit.cli.main import common
from seqkit.cli.train_command import stopped_by_signals
from seqkit.errors import ModelError

if TYPE_CHECKING:
    from seqkit.demo import DemoTask
    from seqkit.inference.translation import Translation
    from seqkit.inference.translator import Translator

__all__ = ["command"]

SHOWN = 5


@click.command()
@click.argument("task", type=click.Choice(["numbers", "reverse", "labels"]), default="numbers")
@click.option("--files", "only", type=click.Path(path_type=Path), help="Only write the corpus and its recipe there.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for corpus and run  [default: ./TASK]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demonstration.")
def command(task: DemoTask, only: Path | None, out: Path | None, overwrite: bool) -> None:
    """See it all on a built-in corpus: train, evaluate on unseen lines, use.

    \b
    seqkit demo                    English numbers, dates and times in words -> German
    seqkit demo reverse            letters -> the same letters backwards
    seqkit demo labels             persons, places, dates and sums of money, found in sentences
    seqkit demo --files numbers    only write the corpus and its recipe

    Nothing is downloaded. It takes about two minutes on two cores, labels much less.
    """
    from seqkit.demo import write

    folder = only or out or Path(task)
    write(folder, task, overwrite=overwrite)
    recipe = folder / "recipe.toml"
    if only is not None:
        click.echo(f"wrote {folder}/train.tsv, dev.tsv, test.tsv and recipe.toml", err=True)
        click.echo(f"next: seqkit train {recipe}", err=True)
        return
    what = "4000 labelled sentences" if task == "labels" else "8000 pairs"
    _say(f"1. {folder}/: a corpus of {what}, and a recipe that learns them. Training:")
    _train(recipe, folder / "run", overwrite=overwrite)
    if task == "labels":
        _label(folder)
    else:
        _translate(folder)


def _translate(folder: Path) -> None:
    """Translate the test lines and print scores, examples and an alignment."""
    from seqkit.data.corpora import read_pairs
    from seqkit.inference.translator import Translator

    translator = Translator.load(folder / "run", device="auto")
    test = read_pairs([str(folder / "test.tsv")])
    began = time.monotonic()
    translations = list(translator.translate(test.source))
    seconds = time.monotonic() - began
    _say(f"\n2. The {len(test)} test lines, none of them seen in training ({len(test) / seconds:.0f} lines/s):")
    _scores(translations, test.target)
    _say(f"\n3. {SHOWN} of them, as the model translates them:")
    for translation, reference in list(zip(translations, test.target, strict=True))[:SHOWN]:
        mark = "" if translation.text == reference else f"   (should be: {reference})"
        click.echo(f"  {translation.source}\n    {translation.text}{mark}")
    _print_alignment(translator, translations)
    _say(
        "\nnext:"
        f"\n  seqkit translate {folder / 'run'}                     type your own"
        f"\n  seqkit evaluate {folder / 'run'} {folder / 'test.tsv'}     scores with intervals, worst lines"
        f"\n  seqkit train {folder / 'recipe.toml'} --out mine model.width=192   change the recipe and compare"
    )


def _label(folder: Path) -> None:
    """Label the test sentences and print scores and examples."""
    from seqkit.data.labelled_text import read_labelled
    from seqkit.inference.labeller import Labeller
    from seqkit.metrics.label_scores import label_scores

    labeller = Labeller.load(folder / "run", device="auto")
    test = read_labelled([folder / "test.tsv"])
    predictions = list(labeller.label(test.tokens))
    _say(f"\n2. The {len(test)} test sentences, none of them seen in training:")
    for line in table(label_scores(predictions, test.labels)):
        click.echo(f"  {line}")
    _say(f"\n3. {SHOWN} of them, as the model labels them:")
    for tokens, labels, reference in list(zip(test.tokens, predictions, test.labels, strict=True))[:SHOWN]:
        columns = [max(map(len, pair)) for pair in zip(tokens, labels, strict=True)]
        for row in (tokens, labels, *([] if labels == reference else [reference])):
            mark = "   (right)" if row is reference else ""
            click.echo("  " + " ".join(map(str.ljust, row, columns)).rstrip() + mark)
    _say(
        "\nnext:"
        f"\n  echo 'Victoria met Paris in Florence .' | seqkit label {folder / 'run'}     type your own"
        f"\n  seqkit label {folder / 'run'} --test {folder / 'test.tsv'}     the scores again"
        f"\n  seqkit train {folder / 'recipe.toml'} --out mine model.bidirectional=false   without what comes after"
    )


def _say(text: str) -> None:
    if not common().quiet:
        click.echo(text, err=True)


def _train(recipe: Path, run: Path, *, overwrite: bool) -> None:
    settings = config.load(recipe)

    from seqkit.runs.session import train
    from seqkit.training.callbacks import StopRequest
    from seqkit.training.display.progress import display

    progress = display(terminal=sys.stderr.isatty(), quiet=common().quiet, log_seconds=10.0)
    request = StopRequest()
    with stopped_by_signals(request):
        train(settings, out=run, overwrite=overwrite, display=progress, request=request)


def _scores(translations: list[Translation], references: list[str]) -> None:
    from seqkit.metrics.translation_scores import corpus_scores, exact_match

    hypotheses = [translation.text for translation in translations]
    click.echo(
        f"  exact match  {100 * exact_match(hypotheses, [references]):5.1f} %   (the honest figure for this task)"
    )
    for score in corpus_scores(hypotheses, [references], metrics=("bleu", "chrf")):
        click.echo(f"  {score.name:11}  {score.value:5.1f}   +- {(score.high - score.low) / 2:.1f}   {score.signature}")


def _print_alignment(translator: Translator, translations: list[Translation]) -> None:
    """Print the attention of the longest translation among the first."""
    from seqkit.inference.heat_map import heat_map

    chosen = max(translations[:50], key=lambda translation: len(translation.target_ids))
    try:
        alignment = translator.align(chosen.source, chosen)
    except ModelError:
        return
    _say(f"\n4. Where the model looked while it wrote {chosen.text!r}:\n")
    width = shutil.get_terminal_size((100, 24)).columns
    for line in heat_map(*alignment, width=width, colour=sys.stdout.isatty() and not common().plain):
        click.echo("  " + line)
