"""`seqkit generate`: text from a language model, token by token at a terminal, a text a line in a pipe."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
from click.core import ParameterSource

from seqkit.cli import file_arguments as files
from seqkit.cli.main import common
from seqkit.cli.words import search_of
from seqkit.errors import ConfigError
from seqkit.files import decode, lines
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.writer import Generated, Writer
    from seqkit.settings import Recipe, Search

__all__ = ["command"]

BLOCK = 64  # texts that are written together
LENGTH = 256  # tokens after the prompt, unless another number is asked for

# Options that are short for search settings.
SHORT = {
    "beam": "search.beam",
    "length": "search.maximum_length",
    "temperature": "search.temperature",
    "top_k": "search.top_k",
    "nucleus": "search.nucleus",
    "greedy": "search.top_k",
    "repetition_penalty": "search.repetition_penalty",
    "no_repeat": "search.no_repeat",
    "seed": "search.seed",
}
# What a beam, which draws nothing, and a greedy choice, which is always the same, have no use for.
DRAWING = ("temperature", "top_k", "nucleus", "seed")
NOT_WITH_BEAM = (*DRAWING, "greedy", "repetition_penalty", "no_repeat")


@click.command(cls=files.Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("prompt", default="")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Texts for each prompt.")
@click.option("--length", type=int, default=LENGTH, show_default=True, help="The most tokens after the prompt.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="Below 1 bolder, above 1 wilder.")
@click.option("--top-k", type=int, default=0, help="Draw among the K likeliest tokens only.")
@click.option("--nucleus", type=float, default=1.0, help="Draw among the likeliest tokens of this probability only.")
@click.option("--greedy", is_flag=True, help="Always take the likeliest token.")
@click.option("--beam", type=int, help="The likeliest texts, by a search that keeps N; --samples of them.")
@click.option("--repetition-penalty", type=float, default=1.0, help="Divide the scores of tokens that have occurred.")
@click.option("--no-repeat", type=int, default=0, help="No N tokens in a row occur twice.")
@click.option("--seed", type=int, help="The same seed gives the same texts. [default: a new one each time]")
@click.option("--format", "form", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@files.settings
@click.pass_context
def command(
    context: click.Context,
    model: Path,
    prompt: str,
    samples: int,
    length: int,
    temperature: float,
    top_k: int,
    nucleus: float,
    greedy: bool,
    beam: int | None,
    repetition_penalty: float,
    no_repeat: int,
    seed: int | None,
    form: Literal["text", "jsonl"],
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Write text with the language model of a run folder, from a prompt or from nothing.

    \b
    seqkit generate runs/timemachine "The Time Traveller " --length 500
    seqkit generate runs/timemachine --samples 10 --temperature 0.8 --nucleus 0.95 > samples.txt
    seqkit generate runs/names - --beam 5 < prompts.txt
    seqkit generate runs/names search.top_k=10 search.seed=3

    With - prompts are read from standard input, one a line. In a pipe each text is a line, line breaks in it written
    as \\n; --format jsonl keeps them and adds probabilities. A beam goes to the end of a line.

    Options are short for search settings (seqkit config keys search), which can be given as well. Texts are drawn by
    plain defaults, whatever the run's own search settings; a beam begins with those.
    """
    given = {name for name in NOT_WITH_BEAM if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    for chosen, flag, useless in ((beam is not None, "--beam", NOT_WITH_BEAM), (greedy, "--greedy", DRAWING)):
        for name in useless if chosen else ():
            if name in given:
                raise ConfigError(f"--{name.replace('_', '-')} has no effect with {flag}", "leave out one of them")

    from seqkit.inference.writer import Writer

    writer = Writer.load(model, device=device)
    search = _search(writer.loaded.recipe, [*_short_words(context), *overrides], beam=beam, samples=samples)
    began, count = time.monotonic(), 0
    if sys.stdout.isatty() and form == "text" and search.method == "sample":
        count = _show(writer, _repeated(prompt, samples), search)
    else:
        if search.method == "sample":
            texts = _drawn(writer, _repeated(prompt, samples), search)
        else:
            texts = (text for line in _prompts(prompt) for text in writer.search(line, search=search))
        for count, generated in enumerate(texts, start=1):
            sys.stdout.buffer.write(_line(count, generated, form))
            sys.stdout.buffer.flush()
    if not common().quiet:
        again = "" if search.method != "sample" or search.top_k == 1 else f", --seed {search.seed}"
        click.echo(f"{count} texts, {time.monotonic() - began:.1f} s{again}", err=True)


def _short_words(context: click.Context) -> list[str]:
    """The options of the command line that are short for search settings, as the settings that they stand for."""
    words = []
    for name, key in SHORT.items():
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            value = context.params[name]
            words.append(
                "search.top_k=1" if name == "greedy" or (name, value) == ("temperature", 0) else f"{key}={value}"
            )
    return words


def _search(recipe: Recipe, words: Sequence[str], *, beam: int | None, samples: int) -> Search:
    """How texts are looked for. Raises ConfigError for settings that cannot be met."""
    from seqkit.settings import Search

    if beam is not None and not 1 <= samples <= beam:
        raise ConfigError(f"--beam {beam} cannot give {samples} texts", f"give --beam {samples} or more")
    method = next((word.partition("=")[2] for word in reversed(words) if word.startswith("search.method=")), None)
    if beam is None and method in (None, "sample"):
        usual = Search(method="sample", maximum_length=LENGTH, seed=secrets.randbits(32))
    elif method in (None, "beam"):
        usual = msgspec.structs.replace(recipe.search, method="beam", minimum_length=0, maximum_length=LENGTH)
        words = [f"search.nbest={samples}", *words]
    else:
        raise ConfigError(f"search.method={method} is not for language models", "set it to sample or beam")
    return search_of(msgspec.structs.replace(recipe, search=usual), words)


def _prompts(word: str) -> Iterator[str]:
    """The prompt of the command line, or those of standard input."""
    if word != "-":
        yield decode(os.fsencode(word))[0]
        return
    for line in lines(sys.stdin.buffer, "standard input"):
        yield decode(line)[0]


def _repeated(word: str, samples: int) -> Iterator[str]:
    return (prompt for prompt in _prompts(word) for _ in range(samples))


def _show(writer: Writer, prompts: Iterable[str], search: Search) -> int:
    """Write each text as it comes, a blank line between two; how many there were."""
    count = 0
    for number, prompt in enumerate(prompts):
        if number:
            click.echo()
        for piece in writer.stream(prompt, search=search, number=number):
            click.echo("\n".join(map(escape, piece.split("\n"))), nl=False)
            sys.stdout.flush()
        click.echo()
        count += 1
    return count


def _drawn(writer: Writer, prompts: Iterator[str], search: Search) -> Iterator[Generated]:
    first = 0
    while block := list(islice(prompts, BLOCK)):
        yield from writer.generate(block, search=search, first=first)
        first += len(block)


def _line(number: int, generated: Generated, form: Literal["text", "jsonl"]) -> bytes:
    """A text as one line of output."""
    terminal = sys.stdout.isatty()  # where control characters must not get through
    if form == "text":
        text = "\\n".join((escape(line) if terminal else line) for line in generated.text.split("\n"))
        return f"{text}\n".encode()
    record = {
        "id": number,
        "prompt": escape(generated.prompt) if terminal else generated.prompt,
        "text": escape(generated.text) if terminal else generated.text,
        "log_prob": generated.log_prob,
        "tokens": len(generated.ids) + generated.finished,
        "finished": generated.finished,
    }
    return msgspec.json.encode(record) + b"\n"
