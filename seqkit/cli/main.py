"""The entry point: which commands there are, what all of them share, and how each ending looks to the caller.

Nothing heavy is imported before a command needs it: the commands are a table of names.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple, NoReturn

import click

from seqkit.errors import ConfigError, Interrupted, ResourceError, SeqkitError, closest, no_room
from seqkit.system.terminal import escape

__all__ = ["COMMANDS", "CommonOptions", "SuggestingGroup", "common", "follow_up", "main", "run"]

# name: (module:attribute, what it does)
COMMANDS = {
    "demo": ("seqkit.cli.demo_command:command", "See it all on a built-in corpus: train, evaluate, translate."),
    "train": ("seqkit.cli.train_command:command", "Train a model, or go on where training stopped."),
    "translate": ("seqkit.cli.translate_command:command", "Translate what is typed, piped in or read from a file."),
    "generate": ("seqkit.cli.generate_command:command", "Write text with a language model."),
    "perplexity": ("seqkit.cli.perplexity_command:command", "Score a text by a language model, or by several mixed."),
    "label": ("seqkit.cli.label_command:command", "Label the tokens of sentences."),
    "score": ("seqkit.cli.score_command:command", "Print the log-probability of given lines or translations."),
    "evaluate": ("seqkit.cli.evaluate_command:command", "Score translations: BLEU, chrF, TER."),
    "attend": ("seqkit.cli.attend_command:command", "Show where a model looked while it translated."),
    "model": ("seqkit.cli.model_command:command", "Look at trained models; average checkpoints."),
    "export": ("seqkit.cli.export_command:command", "Convert a model for CTranslate2 or Hugging Face Marian."),
    "text": ("seqkit.cli.text_command:command", "Learn how text becomes tokens; encode and decode lines."),
    "data": ("seqkit.cli.data_command:command", "Look at texts: counts, frequencies, Zipf's law."),
    "doctor": ("seqkit.cli.doctor_command:command", "Say what is installed and what the machine offers."),
    "config": ("seqkit.cli.config_command:command", "Show, list and compare settings."),
}

OVERVIEW = """\
seqkit trains translation systems and language models and uses them, on a laptop or on a GPU.

  seqkit demo                        see it all in two minutes, without data or network
  seqkit train recipe.toml           train; the same command goes on where it stopped
  seqkit translate RUN               translate what you type, or standard input
  seqkit evaluate RUN test.tsv       BLEU, chrF and exact matches on a test set
  seqkit perplexity RUN text.txt     how well a language model predicts a text
  seqkit generate RUN "It was"       let it write
  seqkit config keys                 every setting with its type, default and meaning

seqkit --help lists the commands; seqkit COMMAND --help shows examples of one."""

COMMON_HELP = "Every command also takes -q (quiet), -v (verbose), --debug and --no-color."

LONGEST_LINE = 1000  # characters of an error: names come from anywhere

# flag: which field of Common it sets
COMMON_FLAGS = {
    "-q": "quiet",
    "--quiet": "quiet",
    "-v": "verbose",
    "--verbose": "verbose",
    "--debug": "debug",
    "--no-color": "plain",
    "--no-colour": "plain",
}


class CommonOptions(NamedTuple):
    """What every command can be told, before or after its name."""

    quiet: bool = False  # results and errors only
    verbose: bool = False
    debug: bool = False  # show where in the code an error arose
    plain: bool = False  # no colours; NO_COLOR is then set too


class SuggestingGroup(click.Group):
    """A group that answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names. Raises ConfigError when there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = closest(args[0], names)
            hint = f"did you mean {ctx.command_path} {near}?" if near else f"{ctx.command_path} --help lists them"
            raise ConfigError(f"unknown command {args[0]}", hint)
        return super().resolve_command(ctx, args)


class Doorway(SuggestingGroup):
    """The commands of the table, imported when they are called."""

    def list_commands(self, _: click.Context) -> list[str]:
        """The names of the table, in its order."""
        return list(COMMANDS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        """Import a command of the table."""
        if name not in COMMANDS:
            return None
        module, _separator, attribute = COMMANDS[name][0].partition(":")
        try:
            command = vars(importlib.import_module(module))[attribute]
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise ConfigError(f"this installation has no command {name}", "seqkit --help lists the commands") from None
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[name][0]} is not a command")
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.group(
    cls=Doorway,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=COMMON_HELP,
)
@click.version_option(package_name="seqkit", message="seqkit %(version)s")
@click.pass_context
def seqkit(context: click.Context) -> None:
    """Train translation systems and language models, and use them.

    \b
    seqkit demo
    seqkit train recipe.toml model.width=256
    seqkit translate runs/en-de < input.txt > output.txt
    """
    if context.invoked_subcommand is None:
        click.echo(OVERVIEW)


def common() -> CommonOptions:
    """What the command that is running was told; the defaults outside of one."""
    context = click.get_current_context(silent=True)
    found = context.find_object(CommonOptions) if context else None
    return found or CommonOptions()


def follow_up(command: str) -> None:
    """Name the command that one would most likely type next, to a person who is looking."""
    if sys.stdout.isatty() and not common().quiet:
        click.secho(f"next: {escape(command)}", err=True, dim=True, color=False if "NO_COLOR" in os.environ else None)


def run() -> NoReturn:
    """The console script: make the streams UTF-8, run, and leave with the exit code."""
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "surrogateescape"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    # As an interruption does, the end that others ask for leaves through every `finally`: no file stays half written.
    signal.signal(signal.SIGTERM, _leave)
    try:
        sys.exit(main(sys.argv[1:]))
    except SystemExit as leaving:
        _end(leaving.code)
        raise


def _end(code: object) -> None:
    """End a process that was one of several at once, when all is done, without taking the interpreter down.

    Threads of torch's engine that want the interpreter while it is taken down abort the process: once in some thirty
    sharded runs on an overloaded machine, and the launcher then calls a complete run failed.
    """
    distributed = sys.modules.get("seqkit.parallel.processes")
    if distributed is None or not distributed.has_met() or not isinstance(code, int | None):
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def main(words: Sequence[str]) -> int:
    """Run the command that `words` spell; what goes wrong is told on stderr. Returns the exit code."""
    given, rest = _take_common(words)
    if given.plain:
        os.environ["NO_COLOR"] = "1"
    try:
        with seqkit.make_context("seqkit", rest, obj=given) as context:
            seqkit.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more as it ends: there must be somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except click.ClickException as error:
        return _tell(_usage(error), given)
    except SeqkitError as error:
        return _tell(error, given)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            what = f"no file has so long a name: {str(error.filename)[:60]}..."
            return _tell(ConfigError(what, "use a shorter one"), given)
        return _tell(_full(error) if no_room(error) else _fault(error, given), given)
    except Exception as error:
        return _tell(_fault(error, given), given)
    return 0


def _take_common(words: Sequence[str]) -> tuple[CommonOptions, list[str]]:
    end = words.index("--") if "--" in words else len(words)
    given = {COMMON_FLAGS[word] for word in words[:end] if word in COMMON_FLAGS}
    rest = [word for word in words[:end] if word not in COMMON_FLAGS]
    return CommonOptions(*(field in given for field in CommonOptions._fields)), [*rest, *words[end:]]


def _usage(error: click.ClickException) -> ConfigError:
    """A mistake in the words of a command, as click found it, in our form."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "seqkit"
    hint = f"{path} --help shows how"
    if isinstance(error, click.NoSuchOption):
        parameters = context.command.get_params(context) if context else []
        options = [name for parameter in parameters for name in parameter.opts if name.startswith("-")]
        near = closest(error.option_name, [*options, *COMMON_FLAGS])
        return ConfigError(f"unknown option {error.option_name} ({path})", f"did you mean {near}?" if near else hint)
    message = " ".join(error.format_message().split()).rstrip(".")
    return ConfigError(f"{message[:1].lower()}{message[1:]} ({path})", hint)


def _full(error: OSError) -> ResourceError:
    """Wherever the disk is full, it is no fault of ours."""
    what = f" {error.filename}" if error.filename else ""
    return ResourceError(f"cannot write{what}: {error.strerror}", "make room, then give the same command again")


def _fault(error: Exception, given: CommonOptions) -> SeqkitError:
    """An error that nobody foresaw: keep the traceback for whoever will mend it."""
    what = f"this is a fault of seqkit: {type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    if given.debug:
        return SeqkitError(what).with_traceback(error.__traceback__)
    import traceback

    try:
        from platformdirs import user_log_path

        log = user_log_path("seqkit", appauthor=False, ensure_exists=True) / f"{time.time_ns()}.log"
        log.write_text(f"{sys.argv}\n{''.join(traceback.format_exception(error))}", encoding="utf-8", errors="replace")
    except OSError:
        return SeqkitError(what, "the same command with --debug shows where it happened")
    return SeqkitError(what, f"please report it with {log}")


def _tell(error: SeqkitError, given: CommonOptions) -> int:
    """Print an error: what, then the hint; control characters in names must not reach a terminal."""
    if given.debug:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
    label = "" if isinstance(error, Interrupted) else "error: "
    lines = [f"seqkit: {label}{error.what}"]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    for line in "\n".join(lines).split("\n"):
        line = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."
        click.echo(escape(line), err=True)
    return error.exit_code
