"""Recipes: conversion of TOML to typed settings and back; all mistakes of a file are reported in one error.

    recipe = load(Path("recipe.toml"), ["model.width=256", "train.optimizer=muon"])
    load(dump(recipe)) == recipe                            # a law

A recipe is data: it selects from the kinds that the settings list, and names no code. A table with a `kind` may be
written as the kind only (`optimizer = "muon"`), and `none` unsets an optional value (`clip = "none"`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from seqkit.errors import ConfigError, DataError, closest
from seqkit.files import read_start
from seqkit.settings import Recipe, Settings, toml
from seqkit.settings.consistency import check
from seqkit.settings.schema import REQUIRED, Field, choices, fields, keys, kind_of, words

__all__ = ["build", "difference", "dump", "load", "read"]

LARGEST_FILE = 1 << 20  # bytes; a recipe has a few thousand
MOST_MISTAKES = 20  # shown
# Hints for settings that a kind does not have for a reason: (kind, setting) -> hint.
UNSUPPORTED: dict[tuple[str | None, str], str] = {
    (
        "recurrent_language_model",
        "bidirectional",
    ): "a network that reads both ways has seen the token it is to predict; "
    'to label tokens it is right: model.kind="recurrent_labeller"',
}
ALL_KEYS = "seqkit config keys lists every setting"

Dotted = tuple[str, ...]


class _Mistake(NamedTuple):
    path: Dotted
    what: str
    hint: str | None = None


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `section.key=value` overrides, and check the result.

    Raises ConfigError naming every mistake with its dotted path and line.
    """
    try:
        content = read_start(path, LARGEST_FILE + 1)
    except DataError as error:
        raise ConfigError(error.what, error.hint) from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path} is too large for a recipe", "a recipe is a TOML file with a few dozen lines")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} line {line} is not UTF-8", "save the recipe as UTF-8") from None
    return read(text, where=str(path), overrides=overrides)


def read(text: str, *, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """Convert TOML text to a checked recipe; `where`: the source of the text, for errors."""
    try:
        data = toml.parse(text)
    except ValueError as error:
        raise _syntax_error(str(error), Path(where)) from None
    return build(data, where=where, overrides=overrides, text=text)


def build(data: Mapping[str, object], *, where: str, overrides: Sequence[str] = (), text: str = "") -> Recipe:
    """Convert plain data to a checked recipe; `where` and the TOML `text` of the data locate mistakes in errors."""
    tree: Mapping[str, object] = data
    overridden: set[Dotted] = set()
    for word in overrides:
        path, value = _override(word)
        tree = _assign(tree, path, value)
        overridden.add(path)
    mistakes: list[_Mistake] = []
    values = _section(tree, Recipe, (), mistakes)
    if mistakes:
        raise _report(mistakes, where, overridden, toml.line_numbers(text))
    recipe = msgspec.convert(values, Recipe)
    if failures := check(recipe):
        raise _report([_Mistake((), what, hint) for what, hint in failures], where, set(), {})
    return recipe


def dump(recipe: Recipe, *, commented: bool = True) -> str:
    """The recipe as TOML with every key; `commented`: add the meaning of each key, and mark default values."""
    return "\n".join(_table(recipe, (), REQUIRED, commented)) + "\n"


def difference(old: Recipe, new: Recipe) -> list[tuple[str, object, object]]:
    """The settings that differ, as (dotted path, old value, new value); None for a setting that is absent or unset."""
    before, after = dict(_leaves(msgspec.to_builtins(old))), dict(_leaves(msgspec.to_builtins(new)))
    paths = dict.fromkeys((*before, *after))
    return [(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)]


# Reading


def _syntax_error(message: str, path: Path) -> ConfigError:
    position = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    line = f" line {position[1]}" if position else ""
    what = (message[: position.start()] if position else message)[:200]
    if "overwrite" in message or "twice" in message:
        hint = "a key or table stands twice: keep one"
    elif "Invalid value" in message:
        hint = 'text needs quotes: kind = "transformer"'
    else:
        hint = 'a recipe is TOML: [section], then lines key = value; lists in [ ], text in " "'
    return ConfigError(f"{path}{line} is not TOML: {what[0].lower()}{what[1:]}", hint)


def _override(word: str) -> tuple[Dotted, object]:
    name, equals, value = word.partition("=")
    path = tuple(part.strip() for part in name.split("."))
    if not equals or not all(path) or len(path) > 32:
        raise ConfigError(f"{_shown(word)} is no setting", "write section.key=value, e.g. model.width=256")
    try:  # if the locale is not UTF-8, Python decodes arguments with lone surrogates
        value = value.encode(errors="surrogateescape").decode()
    except UnicodeError:
        raise ConfigError(f"the value of {_dotted(path)} is not UTF-8", "use UTF-8 in the terminal") from None
    return path, _value(value)


def _value(word: str) -> object:
    """A word as a TOML value; anything else is text, and a list may contain words without quotes."""
    try:
        parsed = toml.parse(f"value = {word}")
    except ValueError:
        if word[:1] == "[" and word[-1:] == "]" and not set(word[1:-1]) & set("[]\"'"):
            return [_value(part.strip()) for part in word[1:-1].split(",") if part.strip()]
        return word
    return parsed["value"] if len(parsed) == 1 else word


def _assign(tree: object, path: Sequence[str], value: object) -> dict[str, object]:
    """A copy of `tree` with `value` at `path`; a kind written without a table on the way becomes a table."""
    table = dict(tree) if isinstance(tree, Mapping) else {"kind": tree} if isinstance(tree, str) else {}
    first, *rest = path
    table[first] = _assign(table.get(first), rest, value) if rest else value
    return table


# Checking


def _section(
    table: Mapping[str, object], settings: type[Settings], path: Dotted, mistakes: list[_Mistake]
) -> dict[str, object]:
    """The table as msgspec expects it, with every `kind` added; mistakes are appended to `mistakes`."""
    known, kind = fields(settings), kind_of(settings)
    result: dict[str, object] = {} if kind is None else {"kind": kind}
    suggested: set[str | None] = set()
    for key, value in table.items():
        if key in known:
            result[key] = _field(value, known[key], (*path, key), mistakes)
        elif kind is None or key != "kind":
            if len(mistakes) >= MOST_MISTAKES:  # not shown, and the search for similar names takes time
                mistakes.append(_Mistake((*path, key), ""))
                continue
            suggestion = _similar_name(key, [*known] if kind is None else [*known, "kind"])
            suggested.add(suggestion)
            hint = f"did you mean {_dotted((*path, suggestion))}?" if suggestion else _hint_for_unknown(key, path, kind)
            hint = UNSUPPORTED.get((kind, key), hint)
            mistakes.append(_Mistake((*path, key), f"unknown setting {_dotted((*path, key))}", hint))
    for name, field in known.items():
        if field.default is not REQUIRED or name in table or name in suggested:
            continue
        if field.members:  # report the settings that are missing in the table, not the table
            result[name] = _field({}, field, (*path, name), mistakes)
        else:
            mistakes.append(_Mistake((*path, name), f"{_dotted((*path, name))} is missing", field.description))
    return result


def _field(value: object, field: Field, path: Dotted, mistakes: list[_Mistake]) -> object:
    if not field.members:
        if value == "none" and field.optional:
            return None
        if hint := _type_hint(value, field):
            expected = words(field.annotation)
            article = {"integer": "an ", "number": "a ", "list": "a "}.get(expected.split()[0], "")
            what = f"{_dotted(path)} must be {article}{expected}, not {_shown(value)}"
            mistakes.append(_Mistake(path, what, hint))
        return value
    kinds = {kind_of(member): member for member in field.members}
    default = type(field.default) if isinstance(field.default, Settings) else field.members[0]
    table = {"kind": value} if isinstance(value, str) and None not in kinds else value
    if not isinstance(table, Mapping):
        mistakes.append(_Mistake(path, f"{_dotted(path)} must be a table, not {_shown(value)}", ALL_KEYS))
        return value
    chosen = default if None in kinds else kinds.get(_text(table.get("kind", kind_of(default))))
    if chosen is None:
        names = [str(kind) for kind in kinds]
        suggestion = closest(_text(table["kind"]), names)
        hint = f"did you mean {suggestion}? kinds: " if suggestion else "kinds: "
        what = f"unknown {_dotted((*path, 'kind'))} {_shown(table['kind'])}"
        mistakes.append(_Mistake((*path, "kind"), what, hint + ", ".join(names)))
        return value
    return _section(table, chosen, path, mistakes)


def _type_hint(value: object, field: Field) -> str | None:
    """A hint if a value does not have the type of its field, else None."""
    try:
        msgspec.convert(value, field.annotation)
    except (msgspec.ValidationError, UnicodeError):
        allowed = choices(field.annotation)
        texts = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
        if suggestion := next(
            (match for text in texts if text not in allowed and (match := closest(text, allowed))), None
        ):
            return f"did you mean {suggestion}?"
        expected = words(field.annotation)
        if expected.startswith("text") and isinstance(value, int | float):
            return f'text stands in quotes: "{_shown(value)}"'
        if expected.startswith("list") and isinstance(value, str):
            return f"a list stands in brackets: [{_shown(value)}]"
        return field.description or ALL_KEYS
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return "infinity and nan are no settings"
    if any(isinstance(number, int) and abs(number) >= 2**63 for number in numbers):
        return "this is too large"
    return None


def _similar_name(key: str, names: Sequence[str]) -> str | None:
    """The name that a wrong key means: one that differs in one letter, the most similar, or one that contains it."""
    one_letter_apart = (name for name in names if _one_letter_apart(key, name))
    longer = (name for name in names if len(key) > 2 and key in name)
    return next(one_letter_apart, None) or closest(key, names) or next(longer, None)


def _one_letter_apart(first: str, second: str) -> bool:
    prefix = _common_prefix(first, second)
    suffix = _common_prefix(first[prefix:][::-1], second[prefix:][::-1])
    return max(len(first), len(second)) - prefix - suffix == 1


def _common_prefix(first: str, second: str) -> int:
    """The length of the common prefix of two words."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def _hint_for_unknown(key: str, path: Dotted, kind: str | None) -> str:
    """A hint for a key without a similar one in its table: kinds or tables that have it or a similar one."""
    names = {setting: setting.path.split(".")[-1] for setting in keys()}
    suggestion = _similar_name(key, list(dict.fromkeys(names.values())))
    matches = [setting for setting, name in names.items() if name == suggestion]
    kinds = [str(setting.kind) for setting in matches if setting.path == _dotted((*path, key))]
    if kinds:
        have = f"kind {kind} has none; {', '.join(kinds)} have one"
        return have if len(kinds) > 1 else f"only kind {kinds[0]} has it"
    return f"did you mean {matches[0].path}?" if matches and suggestion != "kind" else ALL_KEYS


def _report(
    mistakes: Sequence[_Mistake], where: str, overridden: set[Dotted], lines: Mapping[Dotted, int]
) -> ConfigError:
    """One error for all mistakes, each with its place: a line of the file, or the command line."""

    def located(mistake: _Mistake) -> str:
        prefixes = [mistake.path[:size] for size in range(len(mistake.path), 0, -1)]
        inside = any(path[: len(mistake.path)] == mistake.path for path in overridden if prefixes)
        if overridden.intersection(prefixes) or inside:
            return f"{mistake.what} (command line)"
        line = next((f" line {lines[prefix]}" for prefix in prefixes if prefix in lines), "")
        return f"{mistake.what} ({where}{line})"

    if len(mistakes) == 1:
        return ConfigError(located(mistakes[0]), mistakes[0].hint)
    shown = [located(mistake) + (f": {mistake.hint}" if mistake.hint else "") for mistake in mistakes[:MOST_MISTAKES]]
    if len(mistakes) > MOST_MISTAKES:
        shown.append(f"and {len(mistakes) - MOST_MISTAKES} more")
    return ConfigError(f"{len(mistakes)} mistakes in the settings\n  " + "\n  ".join(shown), ALL_KEYS)


# Writing


def _table(settings: Settings, path: Dotted, default: object, commented: bool) -> list[str]:
    """The lines of a table and of the tables in it."""
    kind = kind_of(type(settings))
    lines: list[str] = []
    if commented and path:
        lines += ["", f"# {' '.join((type(settings).__doc__ or '').split())}"]
    if path:
        lines += [f"[{'.'.join(path)}]"]
    if kind is not None:
        is_default = commented and type(default) is type(settings)
        lines.append(f"kind = {toml.write(kind)}" + ("  # default" if is_default else ""))
    for name, field in fields(type(settings)).items():
        if not field.members:
            lines += _entry(name, getattr(settings, field.attribute), field, commented)
    for name, field in fields(type(settings)).items():
        if field.members:
            lines += _table(getattr(settings, field.attribute), (*path, name), field.default, commented)
    return lines


def _entry(name: str, value: object, field: Field, commented: bool) -> list[str]:
    comment = [f"# {field.description}"] if commented else []
    if value is None and field.default is None:
        return [*comment, f"# {name} is not set"] if commented else []
    mark = "  # default" if commented and value == field.default else ""
    return [*comment, f"{name} = {toml.write('none' if value is None else value)}{mark}"]


# Values and paths in messages


def _leaves(tree: Mapping[str, object], path: Dotted = ()) -> Iterable[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dotted(path: Iterable[str]) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", part) else _shown(part) for part in path)


def _shown(value: object, limit: int = 60) -> str:
    """A value as in a recipe, in about `limit` characters on one line; tables and nested lists are only named."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        flat = all(isinstance(item, str | int | float) for item in value[:10])
        return f"[{', '.join(_shown(item, 20) for item in value[:10])}]"[:limit] if flat else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 10**limit:
        return "a very large number"
    written = f'"{value}"' if isinstance(value, str) else str(value)
    printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in written[: limit + 2])
    return printable if len(written) <= limit + 2 else f"{printable[:limit]}..."
