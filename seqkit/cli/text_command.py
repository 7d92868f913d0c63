"""`seqkit text`: the text layer by itself. The filters write one line for each line that they read."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from seqkit.cli import file_arguments as files
from seqkit.cli.main import SuggestingGroup, common, suggest_next
from seqkit.config import build
from seqkit.errors import ConfigError, DataError
from seqkit.files import decode as decode_line
from seqkit.files import lines, replace_folder
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.text.codec import Codec, Codecs

__all__ = ["command"]

BLOCK = 1000  # lines that are encoded together
SPACE = "\u2581"  # stands for a space inside a token, as in sentencepiece

folder = click.argument("folder", type=click.Path(path_type=Path))
side = click.option("--side", type=click.Choice(["source", "target"]), default="source", show_default=True)
as_ids = click.option("--ids", "as_ids", is_flag=True, help="Numbers in place of tokens.")


@click.group(cls=SuggestingGroup, no_args_is_help=False)
def command() -> None:
    """Learn how text becomes tokens; encode and decode lines.

    \b
    seqkit text learn train.{en,de} --out codec text.size=4000
    seqkit text encode codec < train.en > train.pieces
    seqkit text vocabulary codec | head
    """


@command.command(cls=files.Command)
@files.argument("texts")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace the folder if it exists.")
@files.settings
def learn(texts: tuple[str, ...], out: Path, overwrite: bool, overrides: tuple[str, ...]) -> None:
    """Learn a text layer from text or TSV files.

    \b
    seqkit text learn train.{en,de} --out codec
    seqkit text learn train.tsv --out codec text=words text.joint=false
    """
    if foreign := [word for word in overrides if word.partition("=")[0].partition(".")[0] != "text"]:
        raise ConfigError(f"{foreign[0]} has no effect here", "text learn takes only text.key=value")
    # There is no model here, and the default of model.tied needs a joint vocabulary.
    data = {"data": {"train": list(texts)}, "model": {"tied": "none"}}
    settings = build(data, where="command line", overrides=overrides).text
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists", "--overwrite replaces it")

    from seqkit.text.codec import Codecs

    codecs = Codecs.learn(*_read(texts, joint=settings.joint), settings)
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        codecs.save(partial)
        replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not common().quiet:
        sizes = f"{len(codecs.source)}" if codecs.joint else f"{len(codecs.source)} + {len(codecs.target)}"
        click.echo(f"{escape(str(out))}: {sizes} tokens", err=True)
    suggest_next(f"seqkit text encode {out} < {texts[0]}")


@command.command()
@folder
@as_ids
@side
def encode(folder: Path, as_ids: bool, side: str) -> None:
    """Cut lines into tokens, with spaces between them.

    \b
    seqkit text encode codec < train.en > train.pieces
    seqkit text encode runs/en-de --ids --side target < test.de
    """
    codec = _codec(folder, side)

    def tokens(texts: list[str]) -> Iterator[str]:
        for ids in codec.encode_many(texts):
            yield " ".join(map(str, ids) if as_ids else (token.replace(" ", SPACE) for token in codec.tokens(ids)))

    _filter(tokens)


@command.command()
@folder
@as_ids
@side
def decode(folder: Path, as_ids: bool, side: str) -> None:
    """Put lines of tokens together as text.

    \b
    seqkit text decode codec < train.pieces
    seqkit text decode codec --ids < train.ids
    """
    codec = _codec(folder, side)
    line = count(1)

    def texts(rows: list[str]) -> Iterator[str]:
        for number, row in zip(line, rows, strict=False):
            words = row.split() if as_ids else row.split(" ")
            yield codec.decode(_ids(words, codec, number) if as_ids else [_id(word, codec) for word in words if word])

    _filter(texts)


@command.command()
@folder
@side
def vocabulary(folder: Path, side: str) -> None:
    """Print tokens, ids and counts as TSV.

    \b
    seqkit text vocabulary codec | head
    seqkit text vocabulary runs/en-de --side target
    """
    entries = _codec(folder, side).vocabulary
    for id in range(len(entries)):
        click.echo(f"{_printed(entries.token(id))}\t{id}\t{entries.count(id)}")


def _read(texts: tuple[str, ...], *, joint: bool) -> tuple[list[str], list[str]]:
    """The lines of the source and of the target side; with a joint vocabulary plain texts all go to the first."""
    from seqkit.data.corpora import read_lines, read_pairs

    if len(texts) == 1 and ".tsv" in Path(texts[0]).suffixes:
        pairs = read_pairs(texts)
        return pairs.source, pairs.target
    if joint:
        return [line for text in texts for line in read_lines(text)], []
    if len(texts) != 2:
        raise ConfigError("text.joint=false needs a source and a target file", "seqkit text learn train.en train.de")
    return read_lines(texts[0]), read_lines(texts[1])


def _codec(folder: Path, side: str) -> Codec:
    """One side of the codecs in a folder, which may be that of a run or of a model."""
    from seqkit.text.codec import Codecs

    codecs: Codecs = Codecs.load(folder / "codec" if (folder / "codec").is_dir() else folder)
    return codecs.source if side == "source" else codecs.target


def _filter(convert: Callable[[list[str]], Iterator[str]]) -> None:
    """Write `convert` of the lines of standard input, a line for each; blank lines stay blank."""
    reader = lines(sys.stdin.buffer, "standard input")
    show: Callable[[str], str] = escape if sys.stdout.isatty() else str  # a token may hold control characters
    bad = 0
    while block := [decode_line(line) for line in islice(reader, BLOCK)]:
        bad += sum(not good for _, good in block)
        texts = [text for text, _ in block]
        answers = [answer if text.strip() else "" for text, answer in zip(texts, convert(texts), strict=True)]
        sys.stdout.buffer.write("".join(f"{show(answer)}\n" for answer in answers).encode())
    if bad and not common().quiet:
        click.echo(f"seqkit: lines with bytes that are not UTF-8, now U+FFFD: {bad}", err=True)


def _id(word: str, codec: Codec) -> int:
    """The id of a token as `encode` writes it, with a mark in place of a space."""
    id = codec.vocabulary.id(word)
    return id if codec.vocabulary.token(id) == word else codec.vocabulary.id(word.replace(SPACE, " "))


def _ids(words: list[str], codec: Codec, line: int) -> list[int]:
    for word in words:
        if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < len(codec)):
            raise DataError(f"standard input, line {line}: {word!r} is no id", f"ids are 0 to {len(codec) - 1}")
    return [int(word) for word in words]


def _printed(token: str) -> str:
    """A token on one line of a table."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in token)
