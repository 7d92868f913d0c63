"""What the settings say about themselves: fields, kinds, types in words, and the list of every key."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterator
from typing import NamedTuple, cast

import msgspec
from msgspec import inspect, structs

from seqkit.settings import toml
from seqkit.settings.base import ResumeRule, Settings
from seqkit.settings.recipe import Recipe

__all__ = ["REQUIRED", "Field", "Key", "choices", "fields", "keys", "kind_of", "rule_of", "words"]

REQUIRED = msgspec.NODEFAULT


class Field(NamedTuple):
    """One field of a settings Struct, as a recipe spells it."""

    attribute: str  # its name in Python
    annotation: object
    default: object  # REQUIRED when there is none
    description: str
    members: tuple[type[Settings], ...]  # the Structs to choose from; empty for a plain value
    resume: ResumeRule  # what may become of it, and of all that is in it, when a run goes on

    @property
    def optional(self) -> bool:
        """Whether the word `none` stands for no value: in TOML, which has no null, it can only be a string."""
        inner = inspect.type_info(self.annotation)
        while isinstance(inner, inspect.Metadata):
            inner = inner.type
        kinds = {type(member) for member in inner.types} if isinstance(inner, inspect.UnionType) else set()
        return inspect.NoneType in kinds and inspect.StrType not in kinds


class Key(NamedTuple):
    """One setting that a recipe may hold."""

    path: str  # train.optimizer.momentum
    kind: str | None  # which kind of its section has it; None where the section has no kinds
    type: str  # in words
    default: str  # as in a recipe; "none" and "required" are words
    description: str


@functools.cache
def fields(settings: type[Settings]) -> dict[str, Field]:
    """The fields of a settings Struct by their names in a recipe."""
    return {
        info.encode_name: Field(
            info.name, info.type, info.default, _description(info.type), _members(info.type), _resume(info.type)
        )
        for info in structs.fields(settings)
    }


def rule_of(path: str) -> ResumeRule:
    """What may become of the setting with this dotted path when a run goes on. Raises KeyError for an unknown one."""
    *sections, name = path.split(".")
    candidates: list[type[Settings]] = [Recipe]
    for section in sections:
        inner = [fields(settings)[section] for settings in candidates if section in fields(settings)]
        if marked := [field.resume for field in inner if field.resume != "binding"]:
            return marked[0]
        candidates = [member for field in inner for member in field.members]
    rules = [fields(settings)[name].resume for settings in candidates if name in fields(settings)]
    if not rules and not (name == "kind" and any(kind_of(settings) for settings in candidates)):
        raise KeyError(path)
    return rules[0] if rules else "binding"


def kind_of(settings: type[Settings]) -> str | None:
    """The `kind` that selects this Struct; None when its section has no kinds."""
    return cast("str | None", settings.__struct_config__.tag)


def keys() -> list[Key]:
    """Every setting, in the order of the recipe; one that several kinds have stands once for each."""
    return list(_keys(Recipe, (), default=REQUIRED))


def choices(annotation: object) -> list[str]:
    """The words that a plain type admits, alone or in a list; empty where any text will do."""
    return list(_choices(inspect.type_info(annotation)))


def words(annotation: object) -> str:
    """A plain type in words, its range included: `integer >= 1 or none`."""
    return _words(inspect.type_info(annotation))


def _keys(settings: type[Settings], path: tuple[str, ...], *, default: object) -> Iterator[Key]:
    kind = kind_of(settings)
    if kind is not None:
        chosen = toml.write(kind) if default is REQUIRED or type(default) is settings else "-"
        summary = " ".join((settings.__doc__ or "").split())
        yield Key(".".join((*path, "kind")), kind, toml.write(kind), chosen, summary)
    for name, field in fields(settings).items():
        if not field.members:
            value = "required" if field.default is REQUIRED else _default(field.default)
            yield Key(".".join((*path, name)), kind, words(field.annotation), value, field.description)
    for name, field in fields(settings).items():
        for member in field.members:
            yield from _keys(member, (*path, name), default=field.default)


def _default(value: object) -> str:
    return "none" if value is None else toml.write(value)


def _description(annotation: object) -> str:
    if typing.get_origin(annotation) is not typing.Annotated:
        return ""
    notes = [meta.description for meta in typing.get_args(annotation)[1:] if isinstance(meta, msgspec.Meta)]
    return next((note for note in reversed(notes) if note), "")


def _resume(annotation: object) -> ResumeRule:
    if typing.get_origin(annotation) is not typing.Annotated:
        return "binding"
    marks = [meta.extra or {} for meta in typing.get_args(annotation)[1:] if isinstance(meta, msgspec.Meta)]
    return next((mark["resume"] for mark in marks if "resume" in mark), "binding")


def _members(annotation: object) -> tuple[type[Settings], ...]:
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    choices = typing.get_args(annotation) if union else (annotation,)
    return tuple(choice for choice in choices if isinstance(choice, type) and issubclass(choice, Settings))


def _words(annotation: inspect.Type) -> str:
    match annotation:
        case inspect.Metadata(type=inner):
            return _words(inner)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(gt=gt, ge=ge, lt=lt, le=le):
            return "integer" + _range(gt, ge, lt, le)
        case inspect.FloatType(gt=gt, ge=ge, lt=lt, le=le):
            return "number" + _range(gt, ge, lt, le)
        case inspect.StrType(min_length=least):
            return "text (not empty)" if least else "text"
        case inspect.NoneType():
            return "none"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}" if len(values) > 1 else str(values[0])
        case inspect.VarTupleType(item_type=item):
            return f"list of {_words(item).removeprefix('one of ')}"
        case inspect.TupleType(item_types=items):
            return f"list of {len(items)} ({_words(items[0])})"
        case inspect.UnionType(types=members):
            return " or ".join(_words(member) for member in members)
        case _:
            raise TypeError(f"settings have no words for {annotation}")


def _choices(annotation: inspect.Type) -> Iterator[str]:
    match annotation:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            yield from _choices(inner)
        case inspect.LiteralType(values=values):
            yield from map(str, values)
        case inspect.UnionType(types=members):
            for member in members:
                yield from _choices(member)


def _range(gt: float | None, ge: float | None, lt: float | None, le: float | None) -> str:
    bounds = {">": gt, ">=": ge, "<": lt, "<=": le}
    said = [f"{sign} {bound}" for sign, bound in bounds.items() if bound is not None]
    return f" {' and '.join(said)}" if said else ""
