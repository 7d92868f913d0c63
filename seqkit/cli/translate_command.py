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
from seqkit.cli.streams import LineBlocks, opened, resumable, warn
from seqkit.cli.words import runs_of, search_of
from seqkit.errors import ConfigError, DataError
from seqkit.files import decode
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.translation import Line, Translation

    Translate = Callable[[list[Line]], Iterator[Translation]]

__all__ = ["command"]

SEPARATORS = str.maketrans("\t\r\n", "   ")  # what would end a field or a row

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
        # Reading begins before the model is there: it takes seconds, and the lines are then already waiting.
        blocks = LineBlocks(*stack.enter_context(opened(source)))

        from seqkit.inference.glossary import Glossary
        from seqkit.inference.translator import Translator
        from seqkit.system.host import keep_heap

        keep_heap()
        glossary = None if terms is None else Glossary.load(terms)
        ranked = (nbest or 1) > 1 or any(word.startswith("search.nbest=") for word in overrides)
        wanted = form or "text"
        complete = _complete_groups if wanted == "tsv" or (ranked and form != "jsonl") else _complete_lines
        target, done = stack.enter_context(resumable(output, overwrite=overwrite, resume=resume, complete=complete))
        pool = None
        if workers is not None:
            from seqkit.inference.workers import Workers

            # They load while this process does, which checks the models and reads what is set.
            pool = stack.enter_context(Workers(runs_of(models), count=workers, glossary=glossary))
        translator = Translator.load(*runs_of(models), device="cpu" if pool else device)
        search = search_of(translator.recipe, words)
        ranked = search.nbest > 1 and form != "jsonl"
        layout = _Layout("tsv" if ranked else wanted, scores, links, terminal=target.isatty())
        reading = _Reading(jsonl, prefix, skipped=done)
        translate: Translate
        if pool is not None:
            translate = partial(pool.translate, search=search, protect=protect, explain=links is not None)
        else:
            translate = partial(
                translator.translate, search=search, glossary=glossary, protect=protect, explain=links is not None
            )
        _filter(translate, blocks, reading, target, layout, limit=translator.limit)


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the input with --jsonl."""

    source: str
    prefix: str = ""
    terms: dict[str, list[str]] = {}


class _Reading(NamedTuple):
    """How lines of the input are understood."""

    jsonl: bool
    prefix: str
    skipped: int  # lines whose translations are already there

    def line(self, text: str, number: int) -> Line:
        """A line and what is asked of its translation. Raises DataError, naming the line, for wrong JSON."""
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


class _Layout(NamedTuple):
    """How translations become bytes."""

    form: Format
    scores: bool
    links: Links | None
    terminal: bool  # where control characters must not get through

    def lines(self, number: int, found: Translation) -> bytes:
        """What is written for line `number` of the input, counted from 1."""
        show: Callable[[str], str] = escape if self.terminal else str
        texts = [(found.text, found.score), *found.alternatives]
        linked = "" if self.links is None else "\t" + show(_links(found, self.links))
        match self.form:
            case "jsonl":
                return msgspec.json.encode(_record(number, found, show, explained=self.links is not None)) + b"\n"
            case "tsv":
                rows = (
                    f"{number}\t{rank}\t{score:.4f}\t{show(text.translate(SEPARATORS))}{'' if rank > 1 else linked}\n"
                    for rank, (text, score) in enumerate(texts, start=1)
                )
                return "".join(rows).encode()
            case "text":
                score = f"{found.score:.4f}\t" if self.scores and found.text else ""
                return f"{score}{show(found.text)}{linked if found.text else ''}\n".encode()


def _links(found: Translation, kind: Links) -> str:
    """`0-0 2-1` (source-target, counted from 0), or the words themselves."""
    if kind == "pharaoh":
        return " ".join(f"{source}-{target}" for source, target, _ in found.alignment)
    return " ".join(f"{source}-{target}" for source, target in found.linked_words)


def _record(number: int, found: Translation, show: Callable[[str], str], *, explained: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "id": number,
        "source": show(found.source),
        "translation": show(found.text),
        "score": found.score,
        "log_prob": found.log_prob,
        "confidence": found.confidence,
        "alternatives": [{"translation": show(text), "score": score} for text, score in found.alternatives],
        "unknown": found.unknown,
        "truncated": found.truncated,
        "parts": found.parts,
        "missing": [show(term) for term in found.missing],
    }
    if explained:
        record["token_scores"] = found.token_scores
        record["alignment"] = found.alignment
    return record


def _complete_lines(stream: BinaryIO) -> tuple[int, int]:
    """Lines with an end, and their bytes."""
    count = size = 0
    for line in stream:
        if not line.endswith(b"\n"):
            break
        count, size = count + 1, size + len(line)
    return count, size


def _complete_groups(stream: BinaryIO) -> tuple[int, int]:
    """The same for rows that begin with the number of their line: its last row may be missing, so it is made again."""
    number, begin, size = b"", 0, 0
    for line in stream:
        own = line.partition(b"\t")[0]
        if own != number:
            number, begin = own, size
        size += len(line)
    return (int(number) - 1 if number.isdigit() else 0), begin


def _filter(
    translate: Translate, blocks: LineBlocks, reading: _Reading, target: BinaryIO, layout: _Layout, *, limit: int
) -> None:
    """Write a translation for each line, as soon as its block is done, and then say how it went."""
    told = _Told(limit)
    seconds = 0.0
    number = 0
    for block in blocks:
        skipped = min(max(0, reading.skipped - number), len(block))
        number += skipped
        began = time.monotonic()
        decoded = [decode(line) for line in block[skipped:]]
        lines = [reading.line(text, number + place) for place, (text, _) in enumerate(decoded, start=1)]
        for translation, (_, good) in zip(translate(lines), decoded, strict=True):
            number += 1
            target.write(layout.lines(number, translation))
            told.about(number, translation, good=good)
        target.flush()
        seconds += time.monotonic() - began
    told.summary(number - min(number, reading.skipped), seconds)


class _Told:
    """What is odd in the input, said once for each kind, and counted."""

    def __init__(self, limit: int) -> None:
        self.quiet = common().quiet
        self.limit = limit
        self.counts: dict[str, int] = {"split": 0, "invalid UTF-8": 0, "with a term missing": 0}

    def about(self, number: int, found: Translation, *, good: bool) -> None:
        """Count what is odd about line `number`."""
        terms = ", ".join(map(escape, found.missing))
        cases = {
            "split": (
                found.parts > 1,
                f"line {number} is longer than {self.limit} tokens; such lines are translated in parts",
            ),
            "invalid UTF-8": (not good, f"line {number} is not UTF-8; such bytes become U+FFFD"),
            "with a term missing": (bool(found.missing), f"line {number} could not be given its terms: {terms}"),
        }
        for kind, (odd, what) in cases.items():
            # Each line that lacks a term is named: somebody has to mend it by hand.
            if odd and not self.quiet and (not self.counts[kind] or kind == "with a term missing"):
                warn(what)
            self.counts[kind] += odd

    def summary(self, number: int, seconds: float) -> None:
        """How many lines, how fast, how many odd ones."""
        if self.quiet:
            return
        rate = f"{number / seconds:.0f}" if seconds > 0 else "0"
        odd = "".join(f", {n} {kind}" for kind, n in self.counts.items() if n or kind == "split")
        click.echo(f"{number} lines, {seconds:.1f} s, {rate} lines/s{odd}", err=True)
