"""`seqkit translate`: a filter for pipes and files, a conversation at a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import click
import msgspec

from seqkit.cli import file_arguments as files
from seqkit.cli.main import common
from seqkit.cli.streams import LineBlocks, input_stream, resumable_output, warn
from seqkit.cli.words import runs_of, search_of
from seqkit.errors import ConfigError, DataError
from seqkit.files import decode
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.translation import Line, Translation

    Translate = Callable[[list[Line]], Iterator[Translation]]

__all__ = ["command"]

SEPARATORS = str.maketrans("\t\r\n", "   ")  # characters that end a field or a row

Format = Literal["text", "tsv", "jsonl"]
Links = Literal["pharaoh", "words"]


@click.command(cls=files.Command)
@files.argument("models")
@click.option("-i", "--input", "source", metavar="FILE", default="-", help="Read this in place of standard input.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write this; it appears when it is complete.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option("--resume", is_flag=True, help="Go on with an output that was interrupted.")
@click.option(
    "--format", "form", type=click.Choice(["text", "tsv", "jsonl"]), help="[default: text, or tsv with --nbest]"
)
@click.option("--jsonl", is_flag=True, help='Input lines are {"source", "prefix", "terms": {term: [forms]}}.')
@click.option("--scores", is_flag=True, help="In text, begin each line with its score and a tab.")
@click.option("--align", "links", type=click.Choice(["pharaoh", "words"]), help="Add which words belong together.")
@click.option("--terms", metavar="FILE", help="Terms that must appear: source term, tab, target forms.")
@click.option("--protect", is_flag=True, help="Addresses, placeholders and numbers come out as they went in.")
@click.option("--prefix", metavar="TEXT", default="", help="How every translation begins.")
@click.option("--beam", type=int, help="Short for search.beam=N.")
@click.option("--nbest", type=int, help="Short for search.nbest=N.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--workers", type=click.IntRange(min=1), help="Translate in so many processes, on the CPU.")
@click.option("--no-history", is_flag=True, help="At a terminal: do not remember what is typed.")
@files.settings
def command(
    models: tuple[str, ...],
    source: str,
    output: str,
    overwrite: bool,
    resume: bool,
    form: Format | None,
    jsonl: bool,
    scores: bool,
    links: Links | None,
    terms: str | None,
    protect: bool,
    prefix: str,
    beam: int | None,
    nbest: int | None,
    device: str,
    workers: int | None,
    no_history: bool,
    overrides: tuple[str, ...],
) -> None:
    """Translate what is typed, piped in or read from a file with the model of a run folder, or of several.

    \b
    seqkit translate runs/en-de
    seqkit translate runs/en-de < test.en > test.out
    seqkit translate runs/a runs/b -i test.en.gz -o test.jsonl --format jsonl search.length_reward=0.8
    seqkit translate runs/en-de --terms terms.tsv --protect < manual.en

    Each line of the input has its line in the output; blank lines stay blank. With --nbest each line of the input has
    rows of its number, rank, score and text. Several models are averaged token by token. Search settings are those of
    the first recipe unless they are changed here (seqkit config keys search). Batches go side by side in threads, one a
    processor; with --workers in processes, each of which takes seconds to begin.
    """
    if workers is not None and device not in ("auto", "cpu"):
        raise ConfigError(f"--workers are processes on the CPU, but --device is {device}", "leave one of them out")
    words = [*overrides, *(f"search.{key}={n}" for key, n in (("beam", beam), ("nbest", nbest)) if n is not None)]
    plain = (source, output, form, scores, links, terms, prefix) == ("-", "-", None, False, None, None, "")
    if plain and not (jsonl or protect) and sys.stdin.isatty() and sys.stdout.isatty():
        from seqkit.cli.conversation.prompt import converse

        converse(*runs_of(models), device=device, overrides=words, history=not no_history)
        return
    with contextlib.ExitStack() as stack:
        # Reading begins before the model is loaded, which takes seconds.
        blocks = LineBlocks(*stack.enter_context(input_stream(source)))

        from seqkit.inference.glossary import Glossary
        from seqkit.inference.translator import Translator
        from seqkit.system.host import keep_heap

        keep_heap()
        glossary = None if terms is None else Glossary.load(terms)
        ranked = (nbest or 1) > 1 or any(word.startswith("search.nbest=") for word in overrides)
        chosen = form or "text"
        complete = _complete_groups if chosen == "tsv" or (ranked and form != "jsonl") else _complete_lines
        target, done = stack.enter_context(
            resumable_output(output, overwrite=overwrite, resume=resume, complete=complete)
        )
        pool = None
        if workers is not None:
            from seqkit.inference.workers import Workers

            # The workers load while this process checks the models and reads the settings.
            pool = stack.enter_context(Workers(runs_of(models), count=workers, glossary=glossary))
        translator = Translator.load(*runs_of(models), device="cpu" if pool else device)
        search = search_of(translator.recipe, words)
        ranked = search.nbest > 1 and form != "jsonl"
        output_format = _OutputFormat("tsv" if ranked else chosen, scores, links, terminal=target.isatty())
        input_format = _InputFormat(jsonl, prefix, skipped=done)
        translate: Translate
        if pool is not None:
            translate = partial(pool.translate, search=search, protect=protect, explain=links is not None)
        else:
            translate = partial(
                translator.translate, search=search, glossary=glossary, protect=protect, explain=links is not None
            )
        _filter(translate, blocks, input_format, target, output_format, limit=translator.limit)


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the input with --jsonl."""

    source: str
    prefix: str = ""
    terms: dict[str, list[str]] = {}


class _InputFormat(NamedTuple):
    """How the input is read."""

    jsonl: bool
    prefix: str  # of every translation, unless the line has its own
    skipped: int  # lines at the beginning whose translations are already in the output

    def line(self, text: str, number: int) -> Line:
        """Parse a line of the input. Raises DataError, naming the line, for wrong JSON."""
        from seqkit.inference.glossary import Glossary
        from seqkit.inference.translation import Line

        if not self.jsonl or not text.strip():
            return Line(text, self.prefix if text.strip() else "")
        try:
            record = msgspec.json.decode(text, type=_Record)
        except msgspec.DecodeError as error:
            hint = 'write {"source": "...", "prefix": "...", "terms": {"term": ["form", ...]}}'
            raise DataError(f"input line {number}: {error}", hint) from None
        terms = {term: tuple(filter(None, forms)) for term, forms in record.terms.items()}
        if not all(term and forms for term, forms in terms.items()):
            raise DataError(f"input line {number} has a term without a form", 'write "terms": {"term": ["form"]}')
        return Line(record.source, record.prefix or self.prefix, Glossary(terms) if terms else None)


class _OutputFormat(NamedTuple):
    """How translations are written."""

    form: Format
    scores: bool
    links: Links | None
    terminal: bool  # escape control characters

    def lines(self, number: int, translation: Translation) -> bytes:
        """The output for line `number` of the input, counted from 1."""
        show: Callable[[str], str] = escape if self.terminal else str
        texts = [(translation.text, translation.score), *translation.alternatives]
        links = "" if self.links is None else "\t" + show(_links(translation, self.links))
        match self.form:
            case "jsonl":
                return msgspec.json.encode(_record(number, translation, show, explained=self.links is not None)) + b"\n"
            case "tsv":
                rows = (
                    f"{number}\t{rank}\t{score:.4f}\t{show(text.translate(SEPARATORS))}{'' if rank > 1 else links}\n"
                    for rank, (text, score) in enumerate(texts, start=1)
                )
                return "".join(rows).encode()
            case "text":
                text = translation.text
                score = f"{translation.score:.4f}\t" if self.scores and text else ""
                return f"{score}{show(text)}{links if text else ''}\n".encode()


def _links(translation: Translation, kind: Links) -> str:
    """`0-0 2-1` (source-target, counted from 0), or the words themselves."""
    if kind == "pharaoh":
        return " ".join(f"{source}-{target}" for source, target, _ in translation.alignment)
    return " ".join(f"{source}-{target}" for source, target in translation.linked_words)


def _record(number: int, translation: Translation, show: Callable[[str], str], *, explained: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "id": number,
        "source": show(translation.source),
        "translation": show(translation.text),
        "score": translation.score,
        "log_prob": translation.log_prob,
        "confidence": translation.confidence,
        "alternatives": [{"translation": show(text), "score": score} for text, score in translation.alternatives],
        "unknown": translation.unknown,
        "truncated": translation.truncated,
        "parts": translation.parts,
        "missing": [show(term) for term in translation.missing],
    }
    if explained:
        record["token_scores"] = translation.token_scores
        record["alignment"] = translation.alignment
    return record


def _complete_lines(stream: BinaryIO) -> tuple[int, int]:
    """The number of complete lines, and their bytes."""
    count = size = 0
    for line in stream:
        if not line.endswith(b"\n"):
            break
        count, size = count + 1, size + len(line)
    return count, size


def _complete_groups(stream: BinaryIO) -> tuple[int, int]:
    """For rows that begin with the number of their line: all but the last line, whose last rows may be missing."""
    number, begin, size = b"", 0, 0
    for line in stream:
        field = line.partition(b"\t")[0]
        if field != number:
            number, begin = field, size
        size += len(line)
    return (int(number) - 1 if number.isdigit() else 0), begin


def _filter(
    translate: Translate,
    blocks: LineBlocks,
    input_format: _InputFormat,
    target: BinaryIO,
    output_format: _OutputFormat,
    *,
    limit: int,
) -> None:
    """Write a translation for each line, as soon as its block is translated, and print a report at the end."""
    report = _Report(limit)
    seconds = 0.0
    number = 0
    for block in blocks:
        skipped = min(max(0, input_format.skipped - number), len(block))
        number += skipped
        began = time.monotonic()
        decoded = [decode(line) for line in block[skipped:]]
        lines = [input_format.line(text, number + index) for index, (text, _) in enumerate(decoded, start=1)]
        for translation, (_, good) in zip(translate(lines), decoded, strict=True):
            number += 1
            target.write(output_format.lines(number, translation))
            report.add(number, translation, good=good)
        target.flush()
        seconds += time.monotonic() - began
    report.summary(number - min(number, input_format.skipped), seconds)


class _Report:
    """Irregular lines, by kind: the first of each kind gives a warning, all are counted for the summary."""

    def __init__(self, limit: int) -> None:
        """`limit` is the longest source in tokens that is translated as one part."""
        self.quiet = common().quiet
        self.limit = limit
        self.counts: dict[str, int] = {"split": 0, "invalid UTF-8": 0, "with a term missing": 0}

    def add(self, number: int, translation: Translation, *, good: bool) -> None:
        """Add line `number`, whose bytes are `good` UTF-8 or not."""
        terms = ", ".join(map(escape, translation.missing))
        cases = {
            "split": (
                translation.parts > 1,
                f"line {number} is longer than {self.limit} tokens; such lines are translated in parts",
            ),
            "invalid UTF-8": (not good, f"line {number} is not UTF-8; such bytes become U+FFFD"),
            "with a term missing": (bool(translation.missing), f"line {number} could not be given its terms: {terms}"),
        }
        for kind, (irregular, message) in cases.items():
            # A missing term has to be corrected by hand, so each such line is named.
            if irregular and not self.quiet and (not self.counts[kind] or kind == "with a term missing"):
                warn(message)
            self.counts[kind] += irregular

    def summary(self, number: int, seconds: float) -> None:
        """Print the number of lines, their rate, and the numbers of irregular lines."""
        if self.quiet:
            return
        rate = f"{number / seconds:.0f}" if seconds > 0 else "0"
        irregular = "".join(f", {n} {kind}" for kind, n in self.counts.items() if n or kind == "split")
        click.echo(f"{number} lines, {seconds:.1f} s, {rate} lines/s{irregular}", err=True)
