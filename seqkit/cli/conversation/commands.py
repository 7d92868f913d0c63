"""The commands of a conversation, `:beam 4`, and the completion of their words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from seqkit.cli.conversation.showing import print_note, score_lines, spaced, word_diff
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.words import runs_of
from seqkit.errors import ConfigError, ResourceError, closest
from seqkit.files import replace_file
from seqkit.settings import Search, schema, toml

if TYPE_CHECKING:
    from seqkit.inference.translation import Translation

__all__ = ["COMMANDS", "ConversationCommand", "command", "complete"]

OFF = "off"
SEPARATORS = str.maketrans("\t\r\n", "   ")  # characters that end a field or a row
Run = Callable[[Conversation, str], None]
Values = Callable[[str], Iterable[str]]


class ConversationCommand(NamedTuple):
    """A row of the table of commands."""

    run: Run  # given the words after its name
    usage: str
    purpose: str
    values: Values = lambda _: ()  # completions of the words after its name, given their beginning


def command(name: str) -> ConversationCommand:
    """The command of that name. Raises ConfigError, naming the nearest, when there is none."""
    if name not in COMMANDS:
        near = closest(name, COMMANDS)
        hint = f"did you mean :{near}?" if near else ":help lists the commands; ::text translates a text with a colon"
        raise ConfigError(f"unknown command :{name}", hint)
    return COMMANDS[name]


def complete(line: str) -> tuple[int, list[str]]:
    """The completions of a line: how many of its last characters they replace, and with which words."""
    if not line.startswith(":") or line.startswith("::"):
        return 0, []
    name, space, typed = line[1:].partition(" ")
    if not space:
        return len(name), [command for command in COMMANDS if command.startswith(name)]
    typed = typed.lstrip()
    values = COMMANDS[name].values(typed) if name in COMMANDS else ()
    return len(typed), [value for value in values if value.startswith(typed)]


# Commands for the search


def _setting(key: str) -> Run:
    """A command that changes a search setting, or without words shows it."""

    def run(conversation: Conversation, words: str) -> None:
        if words:
            conversation.change_settings(f"search.{key}={words}")
        else:
            _show_settings(conversation, key)

    return run


def _set(conversation: Conversation, words: str) -> None:
    key, equals, value = (part.strip() for part in words.partition("="))
    name = key.removeprefix("search.")
    if equals and not value and name in schema.fields(Search):
        conversation.reset_setting(f"search.{name}")
    elif equals:
        conversation.change_settings(f"{key if '.' in key else f'search.{key}'}={value}")
    else:
        _show_settings(conversation, name)


def _show_settings(conversation: Conversation, only: str) -> None:
    known = schema.fields(Search)
    if only and only not in known:
        near = closest(only, known)
        raise ConfigError(
            f"unknown setting search.{only}", f"did you mean search.{near}?" if near else ":set lists them"
        )
    values = msgspec.structs.asdict(conversation.search)
    rows = {
        f"search.{name} = {'none' if values[field.attribute] is None else toml.write(values[field.attribute])}": field
        for name, field in known.items()
        if only in ("", name)
    }
    width = max(map(len, rows))
    for setting, field in rows.items():
        print_note(f"{setting:{width}}   {field.description} ({schema.words(field.annotation)})")


def _sample(conversation: Conversation, words: str) -> None:
    default = conversation.translator.recipe.search.method
    if words == OFF:
        conversation.change_settings(f"search.method={'beam' if default == 'sample' else default}")
    elif words:
        conversation.change_settings("search.method=sample", f"search.temperature={words}")
    else:
        _show_settings(conversation, "method")
        _show_settings(conversation, "temperature")


def _prefix(conversation: Conversation, words: str) -> None:
    conversation.prefix = words


def _terms(conversation: Conversation, words: str) -> None:
    from seqkit.inference.glossary import Glossary

    if words == OFF:
        conversation.terms = None
    elif words:
        conversation.terms = (words, Glossary.load(Path(words).expanduser()))
    elif conversation.terms is None:
        print_note("no terms are asked for")
    else:
        path, glossary = conversation.terms
        print_note(f"{len(glossary.entries)} terms of {path}")


# Commands for the output


def _switch(name: str) -> Run:
    """A command that turns a switch on or off, or without words toggles it."""

    def run(conversation: Conversation, words: str) -> None:
        if words not in ("on", OFF, ""):
            raise ConfigError(f":{name} is on or off, not {words}", f"write :{name} on")
        on = words == "on" if words else name not in conversation.switches
        conversation.switches = conversation.switches | {name} if on else conversation.switches - {name}

    return run


def _attention_choice(name: Literal["layer", "head"]) -> Run:
    """A command that chooses a layer or head of the attention, and turns its drawing on."""
    default, reset = ("the last but one", OFF) if name == "layer" else ("the mean of all", "mean")

    def choose(conversation: Conversation, number: int | None) -> None:
        if name == "layer":
            conversation.layer = number
        else:
            conversation.head = number

    def run(conversation: Conversation, words: str) -> None:
        count = min(model.attention_shape[name == "head"] for model in conversation.translator.models)
        if not words:
            number = conversation.layer if name == "layer" else conversation.head
            print_note(f"{name}: {number or default}, of {count}")
        elif words == reset:
            choose(conversation, None)
        elif not words.isdigit() or not 1 <= int(words) <= count:
            raise ConfigError(f":{name} is 1 to {count}, or {reset} for {default}, not {words}", f"write :{name} 1")
        else:
            choose(conversation, int(words))
            conversation.switches = conversation.switches | {"align"}

    return run


def _help(_: Conversation, words: str) -> None:
    rows = [command(words.removeprefix(":"))] if words else list(COMMANDS.values())
    width = max(len(row.usage) for row in rows)
    for row in rows:
        print_note(f"{row.usage:{width}}  {row.purpose}")
    if not words:
        print_note(f"{'::TEXT':{width}}  translate a text that begins with a colon")


# Commands for translations


def _again(conversation: Conversation, _: str) -> None:
    if not conversation.last_input:
        raise ConfigError("nothing was translated yet", "type a text first")
    conversation.translate(conversation.last_input)


def _reference(conversation: Conversation, words: str) -> None:
    if not words:
        raise ConfigError(":ref needs a text to compare with", "write :ref TEXT")
    if not conversation.translations:
        raise ConfigError("nothing was translated yet", "type a text first")
    from seqkit.metrics.sacrebleu_scores import utilities

    output = conversation.translations[-1].text
    [chrf], [bleu] = utilities(output, [words], utility="chrf"), utilities(output, [words], utility="bleu")
    print_note(f"of this sentence: chrF {chrf:.1f}   BLEU {bleu:.1f}")
    print_note(*spaced(word_diff(output, words)))


def _score(conversation: Conversation, words: str) -> None:
    source, _, target = (part.strip() for part in words.partition("|||"))
    if not source or not target:
        raise ConfigError(":score needs a text and its translation", "write :score TEXT ||| TRANSLATION")
    [score] = conversation.translator.score([source], [target])
    codec = conversation.translator.loaded.codecs.target
    for line in score_lines([*codec.tokens(codec.encode(target)), "</s>"], score):
        print_note(*line)


def _save(conversation: Conversation, words: str) -> None:
    path = Path(words).expanduser()
    if path.suffix not in (".tsv", ".jsonl"):
        raise ConfigError(f"{words or ':save'} does not say how to write", "write :save FILE.tsv or :save FILE.jsonl")
    if not conversation.translations:
        raise ConfigError("there is nothing to save yet", "type a text first")
    if path.exists():
        raise ConfigError(f"{path} exists", "choose another name")
    form = _row if path.suffix == ".tsv" else _record
    try:
        replace_file(path, b"".join(form(translation) for translation in conversation.translations))
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", "choose another file") from None
    print_note(f"{len(conversation.translations)} translations are in {path}")


def _row(translation: Translation) -> bytes:
    """Source and translation as a line of TSV, which other commands read as parallel text."""
    return f"{translation.source.translate(SEPARATORS)}\t{translation.text.translate(SEPARATORS)}\n".encode()


def _record(translation: Translation) -> bytes:
    alternatives = [{"translation": text, "score": score} for text, score in translation.alternatives]
    record = {
        "source": translation.source,
        "translation": translation.text,
        "score": translation.score,
        "log_prob": translation.log_prob,
        "confidence": translation.confidence,
        "alternatives": alternatives,
        "unknown": translation.unknown,
        "truncated": translation.truncated,
        "parts": translation.parts,
        "missing": translation.missing,
    }
    return msgspec.json.encode(record) + b"\n"


def _model(conversation: Conversation, words: str) -> None:
    if not words:
        raise ConfigError(":model needs a run folder", "write :model PATH")
    from seqkit.inference.translator import Translator

    print_note(f"loading {words} ...")
    paths = [path.expanduser() for path in runs_of([words])]
    conversation.change_model(Translator.load(*paths, device=conversation.device))
    print_note(conversation.translator.description)


def _paste(conversation: Conversation, _: str) -> None:
    conversation.pending = []


def _quit(_: Conversation, __: str) -> None:
    raise EOFError


# Completions


def _on_off(_: str) -> Iterable[str]:
    return ("on", OFF)


def _names(_: str) -> Iterable[str]:
    return COMMANDS


def _settings(_: str) -> Iterator[str]:
    for name, field in schema.fields(Search).items():
        values = schema.choices(field.annotation)
        yield from (f"search.{name}={value}" for value in values or [""])


def _paths(typed: str) -> Iterator[str]:
    """Files and folders whose path begins so, apart from names with control characters."""
    folder, slash, start = typed.rpartition("/")
    with contextlib.suppress(OSError):
        for entry in sorted(Path(folder + slash or ".").expanduser().iterdir()):
            if entry.name.isprintable() and (start or not entry.name.startswith(".")):
                yield f"{folder}{slash}{entry.name}{'/' if entry.is_dir() else ''}"


def _paths_or_off(typed: str) -> Iterator[str]:
    yield OFF
    yield from _paths(typed)


COMMANDS = {
    "help": ConversationCommand(_help, ":help [COMMAND]", "say what the commands do", _names),
    "n": ConversationCommand(_setting("nbest"), ":n N", "show the N best translations; at most the beam"),
    "beam": ConversationCommand(_setting("beam"), ":beam N", "look at N hypotheses at each step; 1 is greedy"),
    "lenpen": ConversationCommand(
        _setting("length_reward"), ":lenpen A", "divide log-probabilities by length^A; 0 for none"
    ),
    "maxlen": ConversationCommand(_setting("maximum_length"), ":maxlen N", "end a translation after N tokens"),
    "sample": ConversationCommand(
        _sample, ":sample TEMPERATURE|off", "draw translations; below 1 the likely is likelier", lambda _: (OFF,)
    ),
    "seed": ConversationCommand(_setting("seed"), ":seed N", "draw others; the same seed draws the same"),
    "set": ConversationCommand(
        _set, ":set [search.KEY=VALUE]", "show search settings, or change one; KEY= takes it back", _settings
    ),
    "prefix": ConversationCommand(_prefix, ":prefix [TEXT]", "begin every translation so; without text as it likes"),
    "terms": ConversationCommand(
        _terms, ":terms FILE|off", "terms that must appear: source term, tab, forms", _paths_or_off
    ),
    "protect": ConversationCommand(
        _switch("protect"), ":protect on|off", "keep addresses, placeholders and numbers", _on_off
    ),
    "align": ConversationCommand(
        _switch("align"), ":align on|off", "draw which source words each word attended to", _on_off
    ),
    "layer": ConversationCommand(
        _attention_choice("layer"),
        ":layer N|off",
        "draw layer N's attention; off: the last but one's",
        lambda _: (OFF,),
    ),
    "head": ConversationCommand(
        _attention_choice("head"), ":head N|mean", "draw one head's attention, or the mean of all", lambda _: ("mean",)
    ),
    "tokens": ConversationCommand(
        _switch("tokens"), ":tokens on|off", "show what is read and written; unknown: marked", _on_off
    ),
    "time": ConversationCommand(_switch("time"), ":time on|off", "say where the time went", _on_off),
    "again": ConversationCommand(_again, ":again", "translate the last input with the settings now"),
    "ref": ConversationCommand(_reference, ":ref TEXT", "compare the last translation with a better one"),
    "score": ConversationCommand(_score, ":score TEXT ||| TRANSLATION", "how likely the model finds a translation"),
    "paste": ConversationCommand(_paste, ":paste", 'translate the lines that follow, up to """ or Ctrl-D'),
    "model": ConversationCommand(_model, ":model PATH", "change to another model, or to several, a+b", _paths),
    "save": ConversationCommand(_save, ":save FILE", "write all translations to a new file, .tsv or .jsonl", _paths),
    "quit": ConversationCommand(_quit, ":quit", "leave; so does Ctrl-D"),
}
