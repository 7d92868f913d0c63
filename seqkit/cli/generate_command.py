"""`seqkit generate`: text from a language model, token by token at a terminal, a text a line in a pipe."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
from click.core import ParameterSource

from seqkit.cli import file_arguments as files
from seqkit.cli.main import common
from seqkit.errors import ConfigError
from seqkit.files import decode, lines
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from seqkit.inference.writer import Generated, Writer
    from seqkit.search.sample import Sampling

__all__ = ["command"]

BLOCK = 64  # texts that are written together

# What a beam, which draws nothing, and a greedy choice, which is always the same, have no use for.
DRAWING = ("temperature", "top_k", "nucleus", "seed")
NOT_WITH_BEAM = (*DRAWING, "greedy", "repetition_penalty", "no_repeat")


@click.command(cls=files.Command)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("prompt", default="")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Texts for each prompt.")
@click.option("--length", type=int, default=256, show_default=True, help="The most tokens after the prompt.")
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
) -> None:
    """Write text with the language model of a run folder, from a prompt or from nothing.

    \b
    seqkit generate runs/timemachine "The Time Traveller " --length 500
    seqkit generate runs/timemachine --samples 10 --temperature 0.8 --nucleus 0.95 > samples.txt
    seqkit generate runs/names - --beam 5 < prompts.txt

    With - prompts are read from standard input, one a line. In a pipe each text is a line, line breaks in it written
    as \\n; --format jsonl keeps them and adds probabilities. A beam goes to the end of a line.
    """
    given = {name for name in NOT_WITH_BEAM if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    for chosen, flag, useless in ((beam is not None, "--beam", NOT_WITH_BEAM), (greedy, "--greedy", DRAWING)):
        for name in useless if chosen else ():
            if name in given:
                raise ConfigError(f"--{name.replace('_', '-')} has no effect with {flag}", "leave out one of them")

    from seqkit.inference.writer import Writer
    from seqkit.search.sample import Sampling

    sampling = Sampling(
        temperature=0.0 if greedy else temperature,
        top_k=top_k,
        nucleus=nucleus,
        repetition_penalty=repetition_penalty,
        no_repeat=no_repeat,
        maximum_length=length,
        seed=secrets.randbits(32) if seed is None else seed,
    )
    writer = Writer.load(model, device=device)
    began, count = time.monotonic(), 0
    if sys.stdout.isatty() and form == "text" and beam is None:
        count = _show(writer, _repeated(prompt, samples), sampling)
    else:
        if beam is None:
            found = _drawn(writer, _repeated(prompt, samples), sampling)
        else:
            found = _searched(writer, _prompts(prompt), beam=beam, best=samples, length=length)
        for count, generated in enumerate(found, start=1):
            sys.stdout.buffer.write(_line(count, generated, form))
            sys.stdout.buffer.flush()
    if not common().quiet:
        again = "" if greedy or beam is not None else f", --seed {sampling.seed}"
        click.echo(f"{count} texts, {time.monotonic() - began:.1f} s{again}", err=True)


def _prompts(word: str) -> Iterator[str]:
    """The prompt of the command line, or those of standard input."""
    if word != "-":
        yield decode(os.fsencode(word))[0]
        return
    for line in lines(sys.stdin.buffer, "standard input"):
        yield decode(line)[0]


def _repeated(word: str, samples: int) -> Iterator[str]:
    return (prompt for prompt in _prompts(word) for _ in range(samples))


def _show(writer: Writer, prompts: Iterable[str], sampling: Sampling) -> int:
    """Write each text as it comes, a blank line between two; how many there were."""
    count = 0
    for number, prompt in enumerate(prompts):
        if number:
            click.echo()
        for piece in writer.stream(prompt, sampling=sampling, number=number):
            click.echo("\n".join(map(escape, piece.split("\n"))), nl=False)
            sys.stdout.flush()
        click.echo()
        count += 1
    return count


def _drawn(writer: Writer, prompts: Iterator[str], sampling: Sampling) -> Iterator[Generated]:
    first = 0
    while block := list(islice(prompts, BLOCK)):
        yield from writer.generate(block, sampling=sampling, first=first)
        first += len(block)


def _searched(writer: Writer, prompts: Iterable[str], *, beam: int, best: int, length: int) -> Iterator[Generated]:
    if not 1 <= best <= beam:
        raise ConfigError(f"--beam {beam} cannot give {best} texts", f"give --beam {best} or more")
    if length < 1:
        raise ConfigError(f"--length is {length}", "it must be 1 or more")
    search = msgspec.structs.replace(
        writer.loaded.recipe.search, beam=beam, nbest=best, minimum_length=0, maximum_length=length
    )
    for prompt in prompts:
        yield from writer.search(prompt, search=search)


def _line(number: int, found: Generated, form: Literal["text", "jsonl"]) -> bytes:
    """A text as one line of output."""
    terminal = sys.stdout.isatty()  # where control characters must not get through
    if form == "text":
        text = "\\n".join((escape(line) if terminal else line) for line in found.text.split("\n"))
        return f"{text}\n".encode()
    record = {
        "id": number,
        "prompt": escape(found.prompt) if terminal else found.prompt,
        "text": escape(found.text) if terminal else found.text,
        "log_prob": found.log_prob,
        "tokens": len(found.ids) + found.finished,
        "finished": found.finished,
    }
    return msgspec.json.encode(record) + b"\n"
