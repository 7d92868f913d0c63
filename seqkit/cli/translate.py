"""`seqkit translate`: a filter for pipes and files, a conversation at a terminal."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import click
import msgspec

from seqkit import config
from seqkit.cli import files
from seqkit.cli.main import common
from seqkit.errors import ConfigError, ResourceError
from seqkit.files import decode, lines, open_binary, replacing
from seqkit.report import escape
from seqkit.settings import Recipe, Search

if TYPE_CHECKING:
    from seqkit.translation import Translation
    from seqkit.translator import Translator

__all__ = ["Blocks", "command", "opened", "published", "search_of", "warn"]

BLOCK = 2000  # lines that are translated together, if so many are there
SEPARATORS = str.maketrans("\t\r\n", "   ")  # what would end a field or a row

Format = Literal["text", "tsv", "jsonl"]


@click.command(cls=files.Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-i", "--input", "source", metavar="FILE", default="-", help="Read this in place of standard input.")
@click.option("-o", "--output", metavar="FILE", default="-", help="Write this; it appears when it is complete.")
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option(
    "--format", "form", type=click.Choice(["text", "tsv", "jsonl"]), help="[default: text, or tsv with --nbest]"
)
@click.option("--scores", is_flag=True, help="In text, begin each line with its score and a tab.")
@click.option("--beam", type=int, help="Short for search.beam=N.")
@click.option("--nbest", type=int, help="Short for search.nbest=N.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option("--no-history", is_flag=True, help="At a terminal: do not remember what is typed.")
@files.settings
def command(
    model: Path,
    source: str,
    output: str,
    overwrite: bool,
    form: Format | None,
    scores: bool,
    beam: int | None,
    nbest: int | None,
    device: str,
    no_history: bool,
    overrides: tuple[str, ...],
) -> None:
    """Translate what is typed, piped in or read from a file with the model of a run folder.

    \b
    seqkit translate runs/en-de
    seqkit translate runs/en-de < test.en > test.out
    seqkit translate runs/en-de -i test.en.gz -o test.jsonl --format jsonl search.length_reward=0.8

    Each line of the input has its line in the output; blank lines stay blank. With --nbest each line of the input has
    rows of its number, rank, score and text. Search settings are those of the recipe unless they are changed here.
    """
    words = [*overrides, *(f"search.{key}={n}" for key, n in (("beam", beam), ("nbest", nbest)) if n is not None)]
    if (source, output, form, scores) == ("-", "-", None, False) and sys.stdin.isatty() and sys.stdout.isatty():
        from seqkit.cli.interactive import converse

        converse(model, device=device, overrides=words, history=not no_history)
        return
    with contextlib.ExitStack() as stack:
        # Reading begins before the model is there: it takes seconds, and the lines are then already waiting.
        blocks = Blocks(*stack.enter_context(opened(source)))
        target = stack.enter_context(published(output, overwrite=overwrite))

        from seqkit.translator import Translator

        translator = Translator.load(model, device=device)
        search = search_of(translator.recipe, words)
        ranked = search.nbest > 1 and form != "jsonl"
        layout = _Layout("tsv" if ranked else form or "text", scores, terminal=target.isatty())
        _filter(translator, search, blocks=blocks, target=target, layout=layout)


def search_of(recipe: Recipe, overrides: Sequence[str]) -> Search:
    """The recipe's search settings, those of the command line in their place. Raises ConfigError for any other word."""
    for word in overrides:
        if not word.startswith("search."):
            raise ConfigError(f"{word} has no effect here", "a trained model takes only search.key=value")
    if not overrides:
        return recipe.search
    text = config.dump(recipe, commented=False)
    return config.read(text, where="command line", overrides=overrides).search


class Blocks:
    """The lines of a stream as lists of what has arrived, at most `BLOCK` at a time, never waiting for more than one.

    A thread reads ahead, from now on: a file gets full batches, a program that waits for each answer gets it at once.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """`name` stands in the DataError for what cannot be read, which comes after the lines before it."""
        self._room = threading.Semaphore(BLOCK)
        self._waiting: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        threading.Thread(target=self._read, args=(lines(stream, name),), name="reader", daemon=True).start()

    def _read(self, source: Iterable[bytes]) -> None:
        end: BaseException | None = None
        try:
            for line in source:
                self._room.acquire()
                self._waiting.put(line)
        except BaseException as error:  # whatever it is, the other thread must not wait for ever
            end = error
        self._waiting.put(end)

    def __iter__(self) -> Iterator[list[bytes]]:
        while True:
            first = self._waiting.get()
            block = [first, *(self._waiting.get() for _ in range(min(self._waiting.qsize(), BLOCK - 1)))]
            ready = [line for line in block if isinstance(line, bytes)]
            for _ in ready:
                self._room.release()
            if ready:
                yield ready
            if len(ready) < len(block):
                end = block[-1]
                if isinstance(end, BaseException):
                    raise end
                return


class _Layout(NamedTuple):
    """How translations become bytes."""

    form: Format
    scores: bool
    terminal: bool  # where control characters must not get through

    def lines(self, number: int, found: Translation) -> bytes:
        """What is written for line `number` of the input, counted from 1."""
        show: Callable[[str], str] = escape if self.terminal else str
        texts = [(found.text, found.score), *found.alternatives]
        match self.form:
            case "jsonl":
                return msgspec.json.encode(_record(number, found, show)) + b"\n"
            case "tsv":
                rows = (
                    f"{number}\t{rank}\t{score:.4f}\t{show(text.translate(SEPARATORS))}\n"
                    for rank, (text, score) in enumerate(texts, start=1)
                )
                return "".join(rows).encode()
            case "text":
                score = f"{found.score:.4f}\t" if self.scores and found.text else ""
                return f"{score}{show(found.text)}\n".encode()


def _record(number: int, found: Translation, show: Callable[[str], str]) -> dict[str, object]:
    return {
        "id": number,
        "source": show(found.source),
        "translation": show(found.text),
        "score": found.score,
        "log_prob": found.log_prob,
        "alternatives": [{"translation": show(text), "score": score} for text, score in found.alternatives],
        "unknown": found.unknown,
        "truncated": found.truncated,
        "parts": found.parts,
    }


@contextlib.contextmanager
def opened(word: str) -> Iterator[tuple[BinaryIO, str]]:
    """The input that a word names, `-` for standard input, and what to call it in errors."""
    if word != "-":
        with open_binary(word) as stream:
            yield stream, word
        return
    standard = sys.stdin.buffer
    # The reading thread may still wait for input when the program ends, and must then hold no lock of a buffer.
    raw: object = standard.raw if isinstance(standard, io.BufferedReader) else standard
    yield raw, "standard input"  # type: ignore[misc]  # FileIO reads bytes like any BinaryIO


@contextlib.contextmanager
def published(word: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """The output that a word names, `-` for standard output; a file takes its place when everything is in it.

    Raises ConfigError for a file that exists unless `overwrite`, ResourceError for one that cannot be written.
    """
    path = Path(word)
    if word == "-":
        yield sys.stdout.buffer
    elif path.exists() and not path.is_file():  # a device or a named pipe cannot be replaced by rename
        try:
            device = path.open("wb")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}", "choose another output") from None
        with device:
            yield device
    elif path.exists() and not overwrite:
        raise ConfigError(f"{path} exists", "--overwrite replaces it")
    else:
        try:
            with replacing(path) as stream:
                yield stream
        except OSError as error:
            raise ResourceError(f"cannot write {path}: {error.strerror}", "choose another output") from None


def _filter(translator: Translator, search: Search, *, blocks: Blocks, target: BinaryIO, layout: _Layout) -> None:
    """Write a translation for each line, as soon as its block is done, and then say how it went."""
    quiet = common().quiet
    number = bad = split = 0
    seconds = 0.0
    for block in blocks:
        began = time.monotonic()
        decoded = [decode(line) for line in block]
        found = translator.translate((text for text, _ in decoded), search=search)
        for translation, (_, good) in zip(found, decoded, strict=True):
            number += 1
            target.write(layout.lines(number, translation))
            if not good and not bad and not quiet:
                warn(f"line {number} is not UTF-8; such bytes become U+FFFD")
            if translation.parts > 1 and not split and not quiet:
                warn(f"line {number} is longer than {translator.limit} tokens; such lines are translated in parts")
            bad += not good
            split += translation.parts > 1
        target.flush()
        seconds += time.monotonic() - began
    if not quiet:
        rate = f"{number / seconds:.0f}" if seconds > 0 else "0"
        unreadable = f", {bad} invalid UTF-8" if bad else ""
        click.echo(f"{number} lines, {seconds:.1f} s, {rate} lines/s, {split} split{unreadable}", err=True)


def warn(what: str) -> None:
    """Tell a person of something that is odd."""
    click.echo(f"seqkit: warning: {what}", err=True)
