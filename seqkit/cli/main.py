"""The entry point: the table of commands, the options that all of them share, and the exit code of each outcome.

The table names the modules of the commands, which are imported when they are called: help stays fast.
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

from seqkit.errors import ConfigError, Interrupted, ResourceError, SeqkitError, closest, is_disk_full
from seqkit.system.terminal import escape

__all__ = ["COMMANDS", "CommonOptions", "SuggestingGroup", "common", "main", "run", "suggest_next"]

# name: (module:attribute, a line for the overview)
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

LONGEST_LINE = 1000  # characters of an error that are printed: it may hold any text

# flag: the field of CommonOptions that it sets
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
    """The options of every command, given before or after its name."""

    quiet: bool = False  # results and errors only
    verbose: bool = False
    debug: bool = False  # print tracebacks
    plain: bool = False  # no colours; also sets NO_COLOR


class SuggestingGroup(click.Group):
    """A group whose error for an unknown command suggests the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names. Raises ConfigError when there is none."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            near = closest(args[0], names)
            hint = f"did you mean {ctx.command_path} {near}?" if near else f"{ctx.command_path} --help lists them"
            raise ConfigError(f"unknown command {args[0]}", hint)
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """The commands of the table, each imported when it is called."""

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
    cls=LazyGroup,
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
    """The common options of the command that is running; the defaults outside of one."""
    context = click.get_current_context(silent=True)
    options = context.find_object(CommonOptions) if context else None
    return options or CommonOptions()


def suggest_next(command: str) -> None:
    """Print the most likely next command, if the output is a terminal."""
    if sys.stdout.isatty() and not common().quiet:
        click.secho(f"next: {escape(command)}", err=True, dim=True, color=False if "NO_COLOR" in os.environ else None)


def run() -> NoReturn:
    """The console script: make the streams UTF-8, run, and exit with the exit code."""
    for stream, errors in (
        (sys.stdin, "surrogateescape"),
        (sys.stdout, "surrogateescape"),
        (sys.stderr, "backslashreplace"),
    ):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    # SIGTERM raises SystemExit, which runs every `finally`, so that no file stays half written.
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        sys.exit(main(sys.argv[1:]))
    except SystemExit as end:
        _exit_if_distributed(end.code)
        raise


def _exit_if_distributed(code: object) -> None:
    """End a process of a process group without a shutdown of the interpreter, once all its work is done.

    A thread of torch's autograd engine that needs the interpreter during its shutdown aborts the process. On an
    overloaded machine that happens in about one of thirty sharded runs, and the launcher reports a failure.
    """
    processes = sys.modules.get("seqkit.parallel.processes")
    if processes is None or not processes.joined_group() or not isinstance(code, int | None):
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code or 0)


def _exit_on_signal(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def main(words: Sequence[str]) -> int:
    """Run the command that `words` spell, print any error to stderr, and return the exit code."""
    options, rest = _split_common(words)
    if options.plain:
        os.environ["NO_COLOR"] = "1"
    try:
        with seqkit.make_context("seqkit", rest, obj=options) as context:
            seqkit.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more when it exits, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except click.ClickException as error:
        return _print_error(_usage_error(error), options)
    except SeqkitError as error:
        return _print_error(error, options)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            what = f"no file has so long a name: {str(error.filename)[:60]}..."
            return _print_error(ConfigError(what, "use a shorter one"), options)
        return _print_error(_disk_full(error) if is_disk_full(error) else _fault(error, options), options)
    except Exception as error:
        return _print_error(_fault(error, options), options)
    return 0


def _split_common(words: Sequence[str]) -> tuple[CommonOptions, list[str]]:
    """The common options among the words, and the other words; after `--` nothing is an option."""
    end = words.index("--") if "--" in words else len(words)
    fields = {COMMON_FLAGS[word] for word in words[:end] if word in COMMON_FLAGS}
    rest = [word for word in words[:end] if word not in COMMON_FLAGS]
    return CommonOptions(*(field in fields for field in CommonOptions._fields)), [*rest, *words[end:]]


def _usage_error(error: click.ClickException) -> ConfigError:
    """An error of click about the words of a command, in our form."""
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


def _disk_full(error: OSError) -> ResourceError:
    """The error for a full disk, wherever it shows."""
    what = f" {error.filename}" if error.filename else ""
    return ResourceError(f"cannot write{what}: {error.strerror}", "make room, then give the same command again")


def _fault(error: Exception, options: CommonOptions) -> SeqkitError:
    """The error for a fault of the program; its traceback is kept in a log file, for a report."""
    what = f"this is a fault of seqkit: {type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
    if options.debug:
        return SeqkitError(what).with_traceback(error.__traceback__)
    import traceback

    try:
        from platformdirs import user_log_path

        log = user_log_path("seqkit", appauthor=False, ensure_exists=True) / f"{time.time_ns()}.log"
        log.write_text(f"{sys.argv}\n{''.join(traceback.format_exception(error))}", encoding="utf-8", errors="replace")
    except OSError:
        return SeqkitError(what, "the same command with --debug shows where it happened")
    return SeqkitError(what, f"please report it with {log}")


def _print_error(error: SeqkitError, options: CommonOptions) -> int:
    """Print an error and its hint, with control characters escaped, and return its exit code."""
    if options.debug:
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
