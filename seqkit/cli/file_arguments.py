"""Words of the command line that name files or settings.

    seqkit train --train data/a.en data/a.de --out run model.width=256

An option that takes files takes every following word up to the next option or `key=value`; `x.{en,de}` that no shell
expanded is expanded here; `key=value` words are settings wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import click

from seqkit.files import expand_braces

__all__ = ["Command", "argument", "option", "settings", "spread"]

SETTING = re.compile(r"[A-Za-z_]\w*(\.\w+)*=.*", re.DOTALL)  # ./a=b is a file

Decorated = TypeVar("Decorated", bound=Callable[..., object])


class FilesOption(click.Option):
    """An option whose values are all the words that follow it, up to the next option or setting."""


class Command(click.Command):
    """A command with options from `option`, or with `settings`: `spread` prepares its words for click."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, after an option is put before each file and each setting."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        try:
            words = spread(
                args,
                files={name for option in options if isinstance(option, FilesOption) for name in option.opts},
                values={name for option in options if not (option.is_flag or option.count) for name in option.opts},
                settings=any("--set" in option.opts for option in options),
            )
            return super().parse_args(ctx, words)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the message can name the command
            raise


def option(*names: str, help: str) -> Callable[[Decorated], Decorated]:
    """An option that takes files; its value is a tuple of str, braces expanded, empty when it is not given."""
    return click.option(*names, cls=FilesOption, multiple=True, callback=_expand, metavar="FILES", help=help)


def argument(name: str, *, required: bool = True) -> Callable[[Decorated], Decorated]:
    """An argument that takes files; its value is a tuple of str, braces expanded."""
    return click.argument(name, nargs=-1, required=required, callback=_expand)


def settings(command: Decorated) -> Decorated:
    """Let a command take `section.key=value` words, as the parameter `overrides` (a tuple of str)."""
    help = "Change a setting; `--set` may be left out."
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=help)(command)


def spread(words: Sequence[str], *, files: Collection[str], values: Collection[str], settings: bool) -> list[str]:
    """Repeat an option of `files` before each of its words, and, if `settings`, put `--set` before `key=value`.

    The word after another option of `values` is that option's, whatever it looks like; after `--` nothing is touched.
    Raises click.BadOptionUsage when no file follows an option of `files`.
    """
    result: list[str] = []
    taking: str | None = None  # the option whose files are being read
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if word == "--":
            return [*result, word, *remaining]
        if name in files:
            taking = name
            first = value if equals else next(remaining, "--")
            if len(first) > 1 and first.startswith("-"):
                raise click.BadOptionUsage(name, f"Option {name!r} requires a file.")
            result += [name, first]
        elif len(word) > 1 and word.startswith("-"):
            taking = None
            result.append(word)
            if word in values:
                result += [following for following in [next(remaining, None)] if following is not None]
        elif settings and SETTING.fullmatch(word):
            taking = None
            result += ["--set", word]
        else:
            result += [word] if taking is None else [taking, word]
    return result


def _expand(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for word in value for path in expand_braces(word))
