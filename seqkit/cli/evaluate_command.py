"""`seqkit evaluate`: how good are translations, by standard scores on plain text."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.cli.main import common
from seqkit.cli.words import search_of
from seqkit.errors import ConfigError, DataError, ResourceError, ThresholdError
from seqkit.files import replace_file, sha256
from seqkit.metrics import Score, ScoredLine, corpus_scores, exact_match, length_ratio, worst_lines
from seqkit.metrics.table import translation_metrics
from seqkit.metrics.translation_scores import select
from seqkit.settings import Search
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.translator import Translator
    from seqkit.runs.trained_model import TrainedModel

__all__ = ["Figures", "Tested", "command"]

CHOICES = " and ".join(", ".join(translation_metrics()).rsplit(", ", 1))  # as a sentence lists them


@dataclass(frozen=True)
class Tested:
    """What is scored, and how it came about."""

    hypotheses: list[str]
    references: list[list[str]]  # one list per reference set
    sources: list[str] | None  # None: only the translations are known
    provenance: dict[str, object]
    split: int = 0  # lines whose source was longer than the model takes
    seconds: float | None = None  # of translating


@dataclass(frozen=True)
class Figures:
    """How good it is."""

    scores: list[Score]
    exact: float  # share of lines that equal a reference
    length: float  # words of the hypotheses to words of the references
    worst: list[ScoredLine]


@click.command(cls=files.Command)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@files.argument("test", required=False)
@files.option("--hyp", help="Translations to score, in place of a model's.")
@files.option("--ref", help="Their references; several files are several references for each line.")
@click.option("--metric", default="bleu,chrf", show_default=True, help=f"Of {CHOICES}.")
@click.option("--beam", type=int, help="Short for search.beam=N.")
@click.option("--min-bleu", type=float, metavar="X", help="Leave with exit code 7 if BLEU is below X.")
@click.option("--lines", "count", type=click.IntRange(min=0), default=5, show_default=True, help="Worst lines shown.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@files.settings
def command(
    model: Path | None,
    test: tuple[str, ...],
    hyp: tuple[str, ...],
    ref: tuple[str, ...],
    metric: str,
    beam: int | None,
    min_bleu: float | None,
    count: int,
    as_json: bool,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Score a model's translations of a test set, or translations in a file.

    \b
    seqkit evaluate runs/en-de data/test.{en,de}
    seqkit evaluate runs/en-de test.tsv --metric bleu,chrf,ter --min-bleu 20
    seqkit evaluate --hyp test.out --ref test.de

    Prints each score with its 95 % interval and sacrebleu's signature, and the lines of lowest chrF. The interval is
    the mean of 1,000 bootstrap resamples, plus and minus half the width of their middle 95 %. For a run, the
    translations and results are also written to its folder evaluations/.
    """
    metrics = list(dict.fromkeys([*metric.split(","), *(["bleu"] if min_bleu is not None else [])]))
    select(metrics, with_sources=not (hyp or ref))  # what cannot be computed is refused before the work
    given = [*overrides, *([f"search.beam={beam}"] if beam is not None else [])]
    if hyp or ref:
        if model is not None or given:
            what = given[0] if model is None else f"model {model}"
            raise ConfigError(
                f"--hyp and --ref leave nothing to do for {what}", "give files, or a model and a test set"
            )
        tested, folder = _of_files(hyp, ref), None
    elif model is None or not test:
        raise ConfigError("a model and a test set are needed", "seqkit evaluate RUN test.tsv, or --hyp and --ref")
    else:
        from seqkit.inference.translator import Translator

        translator = Translator.load(model, device=device)
        tested = _of_model(translator, test, search_of(translator.recipe, given))
        folder = _folder(model, test)
    figures = _figures(tested, metrics, count)
    results = msgspec.json.encode(_results(tested, figures))
    if as_json:
        click.echo(escape(results.decode()) if sys.stdout.isatty() else results)
    else:
        click.echo("\n".join(_table(tested, figures)))
    if folder is not None:
        _write(folder, tested.hypotheses, msgspec.json.format(results))
    if min_bleu is not None:
        [bleu] = [score.value for score in figures.scores if score.name == "BLEU"]
        if bleu < min_bleu:
            raise ThresholdError(f"BLEU {bleu:.2f} is below {min_bleu:g}")


def _of_files(hyp: Sequence[str], ref: Sequence[str]) -> Tested:
    from seqkit.data.corpora import read_lines

    if len(hyp) != 1 or not ref:
        raise ConfigError("--hyp names one file, --ref at least one", "seqkit evaluate --hyp out.txt --ref test.de")
    hypotheses, *references = (read_lines(path) for path in (*hyp, *ref))
    for path, lines in zip(ref, references, strict=True):
        if len(lines) != len(hypotheses):
            what = f"{hyp[0]} has {len(hypotheses)} lines, {path} {len(lines)}"
            raise DataError(what, "line i of the one must belong to line i of the other")
    return Tested(hypotheses, references, None, _provenance([*hyp, *ref], len(hypotheses)))


def _of_model(translator: Translator, test: Sequence[str], search: Search) -> Tested:
    from seqkit.data.corpora import read_pairs

    pairs = read_pairs(test, keep_blank=True)
    if not common().quiet:
        click.echo(f"{escape(translator.description)}, translating {len(pairs)} lines ...", err=True)
    began = time.monotonic()
    translations = list(translator.translate(pairs.source, search=search))
    seconds = time.monotonic() - began
    loaded = translator.loaded
    provenance = _provenance(test, len(pairs)) | {
        "model": str(loaded.path),
        "step": loaded.facts.get("step"),
        "checkpoint": sha256(_weights(loaded)),
        "device": str(translator.device),
        "dtype": str(next(loaded.model.parameters()).dtype).removeprefix("torch."),
        "search": msgspec.to_builtins(search),
    }
    texts = [translation.text for translation in translations]
    split = sum(translation.parts > 1 for translation in translations)
    return Tested(texts, [pairs.target], pairs.source, provenance, split, seconds)


def _provenance(paths: Sequence[str], count: int) -> dict[str, object]:
    """What scores are made with and on, hashes of files included: a number means nothing without."""
    versions = {name: importlib.metadata.version(name) for name in ("seqkit", "torch")}
    return {**versions, "lines": count, "files": {path: sha256(path) for path in paths}}


def _weights(loaded: TrainedModel) -> Path:
    """The file of the weights that were loaded."""
    from seqkit.storage.checkpoint import step_path

    steps = loaded.path / "checkpoints"
    folder = step_path(steps, int(str(loaded.facts["step"]))) if steps.is_dir() else loaded.path
    average = folder / "average.safetensors"
    return average if average.exists() else folder / "model.safetensors"


def _folder(run: Path, test: Sequence[str]) -> Path | None:
    """Where a run keeps what it made of this test set: `evaluations/test` for test.en and test.de."""
    if not (run / "checkpoints").is_dir():
        return None
    names = (re.sub(r"\.(gz|xz|zst)$", "", Path(path).name) for path in test)
    stems = dict.fromkeys(Path(name).stem for name in names)
    return run / "evaluations" / "-".join(stems)


def _figures(tested: Tested, metrics: Sequence[str], count: int) -> Figures:
    hypotheses, references = tested.hypotheses, tested.references
    return Figures(
        scores=corpus_scores(hypotheses, references, sources=tested.sources, metrics=metrics),
        exact=exact_match(hypotheses, references),
        length=length_ratio(hypotheses, references),
        worst=worst_lines(hypotheses, references, count),
    )


def _results(tested: Tested, figures: Figures) -> dict[str, object]:
    return {
        "scores": figures.scores,
        "exact_match": figures.exact,
        "length_ratio": figures.length,
        "split": tested.split,
        "lines_per_second": tested.seconds and len(tested.hypotheses) / tested.seconds,
        "worst": figures.worst,
        "provenance": tested.provenance,
    }


def _table(tested: Tested, figures: Figures) -> list[str]:
    """The results for a person; text from a corpus is escaped, and never anything but text."""
    count = len(tested.hypotheses)
    rows = [("metric", "score", "95 % interval", "signature")]
    rows += [
        (score.name, f"{score.value:.2f}", f"{score.low:.2f} to {score.high:.2f}", score.signature)
        for score in figures.scores
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    table += ["", f"exact match   {100 * figures.exact:.1f} % of {count} lines", f"length ratio  {figures.length:.3f}"]
    if tested.seconds is not None:
        table.append(f"split         {100 * tested.split / count:.1f} %: {tested.split} lines were too long")
        table.append(f"speed         {count / max(tested.seconds, 1e-9):.0f} lines/s")
    if figures.worst:
        table += ["", "worst lines by chrF"]
    for line in figures.worst:
        table.append(f"{line.number:6}  chrF {line.score:.1f}")
        if tested.sources is not None:
            table.append(f"        source      {escape(tested.sources[line.number - 1])}")
        table += [f"        reference   {escape(reference)}" for reference in line.references]
        table.append(f"        hypothesis  {escape(line.hypothesis)}")
    return table


def _write(folder: Path, hypotheses: Sequence[str], results: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "hypotheses.txt", "".join(f"{line}\n" for line in hypotheses))
        replace_file(folder / "results.json", results + b"\n")
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror}", "the scores above are right") from None
    if not common().quiet:
        click.echo(f"written to {escape(str(folder))}", err=True)
