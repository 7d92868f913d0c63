"""The conversation of `seqkit translate`: every command, every mistake, and nothing on the screen that is forged."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from seqkit.cli.conversation import prompt as interactive
from seqkit.cli.conversation import showing
from seqkit.cli.conversation.answering import FENCE, answer
from seqkit.cli.conversation.commands import COMMANDS, complete
from seqkit.cli.conversation.showing import Span
from seqkit.cli.conversation.talk import Conversation
from seqkit.data.corpora import read_pairs
from seqkit.inference.translation import Line, Translation
from seqkit.inference.translator import Translator
from seqkit.search.forced_score import ForcedScore
from seqkit.settings import SentencePiece, Words
from seqkit.system.terminal import HIDDEN
from seqkit.text.codec import Codec
from tests.support.terminals import Terminal

Captured = pytest.CaptureFixture[str]

SEQKIT = [sys.executable, "-m", "seqkit"]
HOSTILE = "a\x1b[2J \x9b31m\u202eb\x07 [/foo] [link=x]y[/link]"


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return Translator.load(trained, device="cpu")


@pytest.fixture
def session(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> Conversation:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    return Conversation(translator, translator.recipe.search, device="cpu")


class Say:
    """Gives lines to a session, and what it writes back."""

    def __init__(self, session: Conversation, capture: Captured) -> None:
        self.session, self.capture = session, capture

    def __call__(self, *lines: str) -> tuple[str, str]:
        self.capture.readouterr()
        for line in lines:
            answer(self.session, line)
        out, err = self.capture.readouterr()
        return out, err


@pytest.fixture
def say(session: Conversation, capsys: Captured) -> Say:
    return Say(session, capsys)


def best(translator: Translator, text: str, **settings: Any) -> str:
    [found] = translator.translate([text], **settings)
    return found.text


class Changed(Translator):
    """A translator whose translations are changed before anybody sees them."""

    def __init__(self, translator: Translator, **changes: Any) -> None:
        super().__init__(translator.loaded, device=translator.device)
        self.unchanged, self.changes = translator, changes

    def translate(self, lines: Iterable[str | Line], **settings: Any) -> Iterator[Translation]:
        for translation in self.unchanged.translate(lines, **settings):
            yield replace(translation, **self.changes)


# What a line becomes


def test_the_bare_translation_is_all_that_stdout_gets(say: Say, translator: Translator) -> None:
    out, err = say("h a t")
    assert out == best(translator, "h a t") + "\n"
    assert "score -" in err
    assert "3+" in err
    assert "unknown: none" in err
    assert "unknown: 1" in say("h a @")[1]
    assert say("  ") == say("") == ("", "")
    assert len(say.session.translations) == 2


def test_a_text_may_begin_with_a_colon_and_hold_bytes_that_are_no_text(say: Say) -> None:
    assert "unknown: 1" in say("::quit")[1]
    assert say.session.translations[-1].source == ":quit"
    say("h \udcff a\0")
    assert say.session.translations[-1].source == "h \ufffd a "


def test_several_lines_are_translated_one_by_one_and_hold_no_commands(say: Say, translator: Translator) -> None:
    expected = f"{best(translator, 'h a t')}\n\n{best(translator, ':quit')}\n"
    for begin, end in ((FENCE, FENCE), (":paste", FENCE), (f"{FENCE}h a t", f":quit{FENCE}")):
        inner = ["h a t", "", ":quit"] if end == FENCE else [""]
        if begin == f"{FENCE}h a t":
            inner = [""]
        out, _ = say(begin, *inner, end)
        assert out == expected
        assert say.session.pending is None
    assert say(f"{FENCE}h a t{FENCE}")[0] == best(translator, "h a t") + "\n"
    assert say(FENCE, "", FENCE) == ("", "")
    say(FENCE)
    assert say.session.prompt == "... "
    say("x", FENCE)
    assert say.session.prompt == "word> "


# What is looked for


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        (":n 2", "nbest", 2),
        (":beam 7", "beam", 7),
        (":lenpen 0.6", "length_reward", 0.6),
        (":maxlen 3", "maximum_length", 3),
        (":seed 9", "seed", 9),
        (":sample 0.8", "temperature", 0.8),
        (":set search.top_k=4", "top_k", 4),
        (":set no_repeat = 2", "no_repeat", 2),
        (":set search.ban=[a, b c]", "ban", ("a", "b c")),
    ],
)
def test_settings_are_changed_and_shown(line: str, attribute: str, value: object, say: Say) -> None:
    assert say(line) == ("", "")
    assert getattr(say.session.search, attribute) == value
    name = line.split()[0]
    shown = say(":set")[1]
    assert len(shown.splitlines()) == len(type(say.session.search).__struct_fields__)
    only = say(name if name != ":set" else f":set {attribute}")[1]
    assert f"search.{attribute} = " in only
    assert set(only.splitlines()) <= {row.replace("  ", " ") for row in shown.splitlines()} or len(only) < len(shown)


def test_a_setting_can_be_taken_back(say: Say) -> None:
    say(":n 3", ":beam 4", ":set search.language_model=nowhere")
    assert "nowhere is not a model folder" in say("h a t")[1]
    assert say(":set language_model=") == ("", "")
    assert say("h a t")[0]
    assert say(":set search.beam=") == ("", "")
    assert (say.session.search.beam, say.session.search.nbest) == (3, 3)
    assert list(say.session.changed) == ["search.nbest"]
    assert "did you mean search.beam?" in say(":set search.beamm=")[1]


def test_the_beam_and_the_longest_translation_are_obeyed(say: Say, translator: Translator) -> None:
    say(":maxlen 1")
    out, err = say("h a t")
    assert len(out.split()) == 1
    assert "the output reached the length limit" in err
    say(":maxlen 512", ":n 3")
    out, err = say("h a t s")
    [found] = translator.translate(["h a t s"], nbest=3)
    assert out == found.text + "\n"
    assert [row.replace("[", "").replace("]", "").split()[2:] for row in err.splitlines()[1:]] == [
        text.split() for text, _ in found.alternatives
    ]


def test_draws_depend_on_the_seed_only(say: Say) -> None:
    say(":sample 3", ":seed 1")
    assert method_of(say) == "sample"
    first = [say("h a t s")[0], *(say(":again")[0] for _ in range(3))]
    assert len(set(first)) == 1
    say(":seed 2")
    others = {say(":again")[0]} | {say(f":seed {seed}", ":again")[0] for seed in range(3, 8)}
    assert others - set(first)
    say(":sample off")
    assert method_of(say) == "beam"


def method_of(say: Say) -> str:
    """How the conversation searches now."""
    return say.session.search.method


def test_a_prefix_stays_until_it_is_taken_away(say: Say, translator: Translator) -> None:
    say(":prefix z z")
    assert say("h a t")[0].startswith("z z ")
    say(":prefix")
    assert say("h a t")[0] == best(translator, "h a t") + "\n"


def test_terms_appear_and_what_cannot_is_named(say: Say, tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("h\tz\nt\tnirgends\n", encoding="utf-8")
    assert say(":terms")[1] == "no terms are asked for\n"
    assert say(f":terms {tmp_path}/terms.tsv") == ("", "")
    assert say(":terms")[1] == f"2 terms of {tmp_path}/terms.tsv\n"
    assert "z" in say("h a")[0].split()
    assert "missing terms: nirgends" in say("t a")[1]
    say(":terms off")
    assert "missing" not in say("t a")[1]
    assert "missing" not in say("12 a")[1]
    say(":protect on")
    assert "missing terms: 12" in say("12 a")[1]


# What is shown


def test_switches_go_on_off_and_over(say: Say) -> None:
    for name in ("align", "tokens", "time", "protect"):
        for words, on in (("on", True), ("on", True), ("", False), ("", True), ("off", False)):
            assert say(f":{name} {words}") == ("", "")
            assert (name in say.session.switches) == on


def test_the_alignment_is_drawn_within_the_terminal(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    say(":align on")
    for width in (60, 12):
        monkeypatch.setenv("COLUMNS", str(width))
        _, err = say("h a t s")
        picture = err.splitlines()[1:]
        assert " ".join(picture).endswith("attention is a hint, not an explanation")
        assert max(map(len, picture)) <= width
        assert "\x1b" not in err
    monkeypatch.setenv("COLUMNS", "60")
    assert say(":again")[1].splitlines()[1].split() == ["h", "a", "t", "s"]


def test_a_layer_and_a_head_are_chosen_and_left_again(say: Say, translator: Translator) -> None:
    layers, heads = translator.models[0].attention_shape
    say("h a t s")
    [found] = say.session.translations
    drawn = set()
    for layer in range(1, layers + 1):
        for head in range(1, heads + 1):
            assert say(f":layer {layer}", f":head {head}") == ("", "")
            with patch.object(Translator, "align", autospec=True, side_effect=Translator.align) as seen:
                say(":again")
            assert seen.call_args.kwargs == {"layer": layer, "head": head}
            drawn.add(str(translator.align("h a t s", found, layer=layer, head=head).weights))
    assert len(drawn) == layers * heads
    assert f"layer: {layers}, of {layers}" in say(":layer")[1]
    say(":layer off", ":head mean")
    assert (say.session.layer, say.session.head) == (None, None)
    assert "head: the mean of all" in say(":head")[1]
    for wrong in (f":layer {layers + 1}", ":head 0", ":head best"):
        assert (
            f"is 1 to {layers if 'layer' in wrong else heads}, or {'off' if 'layer' in wrong else 'mean'}"
            in say(wrong)[1]
        )
    say(":layer 1")
    say.session.change_model(translator)
    assert say.session.layer is None


def test_where_there_is_no_attention_it_is_said_once(say: Say) -> None:
    say(":align on")
    for model in say.session.translator.models:
        with patch.object(type(model), "alignment", side_effect=showing_error()):
            out, err = say("h a t")
            assert out
            assert "no attention" in err
            assert "no attention" not in say("h a t")[1]


def showing_error() -> Exception:
    from seqkit.errors import ModelError

    return ModelError("this model has no attention")


def test_tokens_are_shown_and_unknown_ones_marked(say: Say) -> None:
    say(":tokens on")
    _, err = say("h @ t")
    assert "source  h [<unk>] t" in err.splitlines()
    assert "target  " + " ".join(say.session.translations[-1].text.split()) in err.splitlines()


def test_bytes_are_marked_where_a_piece_is_missing() -> None:
    lines = ["the hat is red and the cat is black", "a hat, a cat, and a bat"] * 9
    codec = Codec.learn(lines, SentencePiece(size=300, byte_fallback=True))
    ids = codec.encode("the ü hat")
    found = list(showing.token_spans(codec, ids))
    assert [part.text for part in found if part.style == "marked"] == ["<0xC3>", "<0xBC>"]
    assert [part.text for part in found] == codec.tokens(ids)
    words = Codec.learn(["<0xC3> a"], Words(split="spaces"))  # here it is a word
    assert [part.style for part in showing.token_spans(words, words.encode("<0xC3> b"))] == ["dim", "marked"]


def test_marks_are_underlined_or_in_brackets(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    showing.print_note("a ", Span("b\x1b[2J", "marked"), Span("c", "plain"))
    assert capsys.readouterr().err == "a [b\\x1b[2J]c\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    showing.print_note("a ", Span("b\x1b[2J", "marked"), Span("c", "plain"))
    assert capsys.readouterr().err == "\x1b[2ma \x1b[0m\x1b[1m\x1b[4mb\\x1b[2J\x1b[0mc\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not showing.coloured(sys.stderr)


def test_words_that_differ_are_marked() -> None:
    other = list(showing.changed_words("the red hat is here", "the blue hat was there"))
    assert [part.text for part in other] == ["the", "blue", "hat", "was there"]
    assert [part.style for part in other] == ["dim", "marked", "dim", "marked"]
    diff = " ".join(part.text for part in showing.word_diff("the red hat here", "the blue hat"))
    assert diff == "the [-red-] {+blue+} hat [-here-]"
    assert list(showing.word_diff("", "")) == []


def test_time_is_said_in_parts(say: Say) -> None:
    say(":time on")
    line = say("h a t")[1].splitlines()[1]
    assert [word for word in line.split() if word.isalpha()] == ["tokenise", "ms", "search", "ms", "detokenise", "ms"]
    assert line.endswith(" tokens/s")


def test_help_has_every_command(say: Say) -> None:
    shown = say(":help")[1]
    assert [row.split()[0] for row in shown.splitlines()[:-1]] == [f":{name}" for name in COMMANDS]
    assert max(map(len, shown.splitlines())) <= 100
    assert "greedy" in say(":help beam")[1]
    assert say(":help :beam") == say(":help beam")


# What is done with translations


def test_a_reference_is_compared_with_the_last_translation(say: Say) -> None:
    say("o n e")
    say.session.translator = Changed(say.session.translator, text="the red hat is here now")
    say("h a t")
    same = say(":ref the red hat is here now")[1].splitlines()
    assert same == ["of this sentence: chrF 100.0   BLEU 100.0", "the red hat is here now"]
    other = say(":ref the blue hat is here now")[1].splitlines()
    assert other[1] == "the [-red-] {+blue+} hat is here now"
    assert 0 < float(other[0].split()[4]) < 100


def test_a_given_translation_is_scored_and_its_worst_token_marked(say: Say, translator: Translator) -> None:
    [found] = translator.score(["h a t"], ["t z h"])
    numbers, tokens = say(":score h a t ||| t z h")[1].splitlines()
    assert f"log-probability {found.log_prob:.2f} " in numbers
    assert "4 tokens" in numbers
    worst = min(range(4), key=found.log_probs.__getitem__)
    expected = ["t", "z", "h", "</s>"]
    assert tokens.split("   ")[1].startswith(f"worst: {expected[worst]}, p ")
    expected[worst] = f"[{expected[worst]}]"
    assert tokens.split("   ")[0].split() == expected
    [_, line] = showing.score_lines(["a", "b"], ForcedScore((-3.0, -1.0), -4.0, -2.0))
    assert next(part.style for part in line if isinstance(part, Span)) == "marked"


def test_the_last_input_is_done_again_with_the_settings_now(say: Say, translator: Translator) -> None:
    say("h a t", ":maxlen 1")
    assert len(say(":again")[0].split()) == 1
    say(":maxlen 512", FENCE, "o n e", "h a t", FENCE)
    assert say(":again")[0] == f"{best(translator, 'o n e')}\n{best(translator, 'h a t')}\n"


def test_a_session_is_saved_once(say: Say, tmp_path: Path) -> None:
    say("h a t", "a\tb", ":n 2", "o n e")
    texts = [found.text for found in say.session.translations]
    assert say(f":save {tmp_path}/x.tsv") == ("", f"3 translations are in {tmp_path}/x.tsv\n")
    pairs = read_pairs([str(tmp_path / "x.tsv")])
    assert (pairs.source, pairs.target) == (["h a t", "a b", "o n e"], texts)
    assert say(f":save {tmp_path}/x.jsonl")[1]
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text("utf-8").splitlines()]
    assert [(row["source"], row["translation"]) for row in rows] == list(
        zip(["h a t", "a\tb", "o n e"], texts, strict=True)
    )
    assert [len(row["alternatives"]) for row in rows] == [0, 0, 1]
    before = (tmp_path / "x.tsv").read_bytes()
    assert "x.tsv exists" in say(f":save {tmp_path}/x.tsv")[1]
    assert (tmp_path / "x.tsv").read_bytes() == before


def test_another_model_takes_over_with_the_settings_changed_here(say: Say, trained: Path) -> None:
    before = say.session.translator
    say(":beam 6")
    assert "word-drow  transformer" in say(f":model {trained}")[1]
    assert say.session.translator is not before
    assert (say.session.search.beam, say.session.search.nbest) == (6, 1)
    assert "2 models" in say(f":model {trained}+{trained}")[1]


def test_a_model_that_is_not_there_changes_nothing(say: Say, trained: Path, tmp_path: Path) -> None:
    before = say.session.translator, say.session.search
    assert "is not a model folder" in say(f":model {trained}x")[1]
    (tmp_path / "empty").mkdir()
    assert "hint: " in say(f":model {tmp_path}/empty")[1]
    recipe = replace_search(say.session.translator, beam=1)
    say(":n 3")
    with patch.object(Translator, "load", lambda *_, **__: recipe):  # whose beam is too small for what was asked
        assert "search.nbest = 3 is more than search.beam = 1" in say(":model other")[1]
    assert say.session.translator is before[0]
    assert say.session.search.beam == before[1].beam


def replace_search(translator: Translator, **changes: Any) -> Any:
    import msgspec

    search = msgspec.structs.replace(translator.recipe.search, **changes)
    return SimpleNamespace(recipe=msgspec.structs.replace(translator.recipe, search=search), description="other")


# Mistakes


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (":beem 3", "did you mean :beam?"),
        (":xyzzy", "hint: :help lists"),
        (":", "hint: :help lists"),
        (":n 9", "search.nbest = 9 is more than search.beam = 3"),
        (":n 0", "search.nbest must be an integer >= 1, not 0"),
        (":beam 0", "search.beam must be an integer >= 1 and <= 1000, not 0"),
        (":beam two", "search.beam must be an integer >= 1"),
        (":beam 2 3", "search.beam must be an integer >= 1"),
        (":lenpen -1", "search.length_reward must be a number >= 0, not -1"),
        (":maxlen 0", "search.maximum_length must be an integer >= 1, not 0"),
        (":sample 0", "search.temperature must be a number >= 0.001 and <= 1000, not 0"),
        (":sample on", "search.temperature must be a number >= 0.001 and <= 1000"),
        (":seed -1", "search.seed must be an integer >= 0, not -1"),
        (":set search.bean=3", "did you mean search.beam?"),
        (":set beamm", "did you mean search.beam?"),
        (":set model.width=3", "model.width=3 has no effect"),
        (":set =", "is no setting"),
        (":align sideways", "hint: write :align on"),
        (":tokens 1", ":tokens is on or off, not 1"),
        (":time yes", ":time is on or off"),
        (":protect yes", ":protect is on or off"),
        (":help me", "unknown command :me"),
        (":terms nowhere.tsv", "nowhere.tsv does not exist"),
        (":ref", "write :ref TEXT"),
        (":ref x", "nothing was translated yet"),
        (":again", "nothing was translated yet"),
        (":score h a t", "write :score TEXT ||| TRANSLATION"),
        (":score ||| t", "write :score TEXT ||| TRANSLATION"),
        (":model", "write :model PATH"),
        (":model nowhere", "nowhere is not a model folder"),
        (":save", "write :save FILE.tsv or"),
        (":save x.txt", "x.txt does not say how to write"),
        (":save x.tsv", "there is nothing to save yet"),
        (":\x1b[2J", "\\x1b[2J"),
        (":model \x1b[2J\n\u202e", "\\x1b[2J"),
        (":terms \x9b\u202e", "\\x9b\\u202e"),
    ],
)
def test_a_mistake_is_a_line_and_a_hint_and_changes_nothing(
    line: str, expected: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out, err = say(line)
    assert out == ""
    assert expected in err
    said = [row for row in err.splitlines() if not row.startswith("loading ")]
    assert len(said) <= 2
    assert not said[0].startswith("hint: ")
    assert not HIDDEN.search(err.replace("\n", ""))
    assert say.session == Conversation(say.session.translator, say.session.translator.recipe.search, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(say: Say, tmp_path: Path) -> None:
    say("h a t")
    assert "cannot write" in say(f":save {tmp_path}/none/x.tsv")[1]


def test_even_a_fault_of_ours_does_not_end_it(say: Say, translator: Translator) -> None:
    with patch.object(translator, "translate", side_effect=RuntimeError("out of\nluck")):
        out, err = say("h a t")
    assert out == ""
    assert err.splitlines()[0] == "this is a fault of seqkit: RuntimeError: out of"
    assert say("h a t")[0]


def test_it_ends_when_it_is_told_to(session: Conversation) -> None:
    with pytest.raises(EOFError):
        answer(session, ":quit")


# What comes from elsewhere cannot write to the terminal


def test_no_text_reaches_the_terminal_raw(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("\x1b[2J.tsv").write_text(f"h\t{HOSTILE}\n", encoding="utf-8")
    codec = SimpleNamespace(
        settings=Words(), tokens=lambda ids: [HOSTILE for _ in ids], encode=lambda _: [5], decode=lambda _: HOSTILE
    )
    say.session.translator = Changed(
        say.session.translator, text=HOSTILE, alternatives=((HOSTILE + " c", -1.0),), missing=(HOSTILE,)
    )
    aligned = ([HOSTILE, "b"], [HOSTILE, "b"], [[0.5, 0.5], [0.1, 0.9]])
    shown = ["".join(say(":terms \x1b[2J.tsv", ":terms", ":tokens on", ":align on", ":time on", HOSTILE))]
    patched = {
        "loaded": SimpleNamespace(codecs=SimpleNamespace(source=codec, target=codec)),
        "align": lambda *_: aligned,
        "data": SimpleNamespace(source=HOSTILE),
        "score": lambda *_: [ForcedScore((-1.0, -2.0), -3.0, -1.0)],
    }
    for name, value in patched.items():
        monkeypatch.setattr(say.session.translator, name, value)
    monkeypatch.setattr(Changed, "description", HOSTILE)
    others = (f":ref {HOSTILE}", f":score {HOSTILE} ||| {HOSTILE}", f":prefix {HOSTILE}", f":set search.ban={HOSTILE}")
    files = (":save \x1b[2J\x9b.tsv", f":save {HOSTILE}", f":model {HOSTILE}", f":terms {HOSTILE}", f":{HOSTILE}")
    for line in ("h a t", ":again", *others, ":set", *files, f":help {HOSTILE}", f":align {HOSTILE}"):
        shown.append("".join(say(line)))
        assert shown[-1] or line.startswith(":prefix")
    shown.append(say.session.prompt)
    assert not HIDDEN.search("".join(shown).replace("\n", ""))
    assert "".join(shown).count("\\x1b[2J") > 20


# Typing


def test_tab_completes_commands_values_settings_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(":al") == (2, ["align"])
    assert complete(":")[1] == list(COMMANDS)
    assert complete(":align o") == (1, ["on", "off"])
    assert complete(":sample ") == (0, ["off"])
    assert complete(":help be") == (2, ["beam"])
    assert complete(":set search.bea") == (10, ["search.beam="])
    assert complete(":set search.method=s") == (15, ["search.method=sample"])
    assert complete("al") == complete("::al") == (0, [])
    assert complete(":nothing x")[1] == complete(":beam ")[1] == []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x.tsv").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "r\x1b[2J\u202e").touch()
    assert complete(":model r") == (1, ["run/"])
    assert complete(":save run/") == (4, ["run/x.tsv"])
    assert complete(":terms ") == (0, ["off", "run/"])
    assert complete(f":model {tmp_path}/.")[1] == [f"{tmp_path}/.hidden"]
    assert complete(":model nowhere/x")[1] == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert complete(":model ~/r")[1] == ["~/run/"]


def test_every_command_can_be_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in COMMANDS:
        assert name in complete(f":{name}")[1]
        assert complete(f":{name} ")[0] == 0


class Typist:
    """Types lines, or raises what the keys stand for."""

    def __init__(self, *typed: str | type[BaseException]) -> None:
        self.typed, self.prompts = list(typed), list[str]()

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        typed = self.typed.pop(0)
        if isinstance(typed, str):
            return typed
        raise typed


def converse(session: Conversation, *typed: str | type[BaseException]) -> Typist:
    """Talk until the session ends; there must be nothing left to type."""
    typist = Typist(*typed)
    while interactive._exchange(session, typist):
        pass
    assert typist.typed == []
    return typist


def test_control_c_cancels_and_never_leaves(session: Conversation, capsys: Captured, translator: Translator) -> None:
    with patch.object(translator, "translate", side_effect=KeyboardInterrupt):
        typist = converse(session, KeyboardInterrupt, "h a t", FENCE, "x", KeyboardInterrupt, ":quit")
    assert typist.prompts == ["word> ", "word> ", "word> ", "... ", "... ", "word> "]
    assert capsys.readouterr() == ("", "\ncancelled\n\n")
    assert session.translations == []


def test_control_d_ends_what_is_pasted_and_then_leaves(session: Conversation, capsys: Captured) -> None:
    converse(session, ":paste", "h a t", "o n e", EOFError, "z\n\nh a t", EOFError)
    assert [found.source for found in session.translations] == ["h a t", "o n e", "z", "h a t"]
    converse(session, "z\n:quit\nh a t")
    assert [found.source for found in session.translations][4:] == ["z"]


def test_history_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(interactive, "REMEMBERED", 3)
    path = interactive._history_file()
    assert path is not None
    path.write_text("".join(f"\n# then\n+line {number}\n" for number in range(9)), encoding="utf-8")
    path.chmod(0o644)
    assert interactive._history_file() == path
    assert [row for row in path.read_text("utf-8").splitlines() if row[:1] == "+"] == ["+line 6", "+line 7", "+line 8"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# At a terminal. The program asks first and waits then: a signal before it waits would come late.
WAIT = 0.2


def conversation(kind: str, trained: Path, folder: Path) -> Terminal:
    environment = {**os.environ, "TERM": kind, "XDG_STATE_HOME": str(folder), "PROMPT_TOOLKIT_NO_CPR": "1"}
    return Terminal([*SEQKIT, "translate", str(trained), "--beam", "2"], environment)


@pytest.mark.slow
def test_every_command_at_a_plain_terminal(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("h\tz\n", encoding="utf-8")
    with conversation("dumb", trained, tmp_path) as terminal:
        shown = terminal.until("word>")
        assert shown.index("loading") < shown.index("word-drow  transformer")
        time.sleep(WAIT)
        for typed, *answers in (
            ("\x03",),  # Ctrl-C
            ("\r",),
            ("h a t\r", "unknown: none"),
            (":bem 3\r", "did you mean :beam?"),
            (":tokens on\r",),
            (":align on\r",),
            (":n 2\r",),
            (":time on\r",),
            (f":terms {tmp_path}/terms.tsv\r",),
            (":protect on\r",),
            (":prefix z\r",),
            (":again\r", "z", "tokenise", "  2  ", "source", "target", "not an explanation"),
            (":prefix\r",),
            (":terms off\r",),
            (":sample 0.5\r",),
            (":seed 3\r",),
            (":again\r", "tokens/s"),
            (":sample off\r",),
            (":beam 3\r",),
            (":lenpen 0.6\r",),
            (":set\r", "length_reward = 0.6"),
            (":ref t a h\r", "chrF"),
            (":score h a t ||| t a h\r", "worst: "),
            (":help time\r", "say where the time went"),
            (f":model {trained}x\r", "is not a model folder"),
            (f":save {tmp_path}/said.tsv\r", "3 translations are in"),
        ):
            terminal.type(typed)
            for answer in (*answers, "word>"):
                terminal.until(answer)
        for typed, prompt in (('"""\r', "... "), ('o n e"""\r', "word>"), (":paste\r", "... "), ("\x04", "word>")):
            terminal.type(typed)
            terminal.until(prompt)
        cancel(terminal)
        terminal.until("word>")
        time.sleep(WAIT)
        terminal.type(":quit\r")
        assert terminal.process.wait(100) == 0
    assert (tmp_path / "said.tsv").read_text("utf-8").startswith("h a t\t")
    assert not (tmp_path / "seqkit").exists()


@pytest.mark.slow
def test_a_terminal_that_can_has_tab_and_history(trained: Path, tmp_path: Path) -> None:
    with conversation("xterm", trained, tmp_path) as terminal:
        terminal.until("word>")
        for typed, *answers in (
            ("h a t\r", "unknown: none"),
            (":tok\t", "ens"),
            (" on\r",),
            ("h a t\r", "source", "target"),
            (":bem 3\r", "did you mean :beam?"),
        ):
            terminal.type(typed)
            for answer in answers:
                terminal.until(answer)
        cancel(terminal)
        # What is drawn does not tell whether the line is empty yet: only then Ctrl-D leaves.
        while terminal.process.poll() is None:
            terminal.type("\x04")
            terminal.shows("gone", WAIT)
        assert terminal.process.returncode == 0
    history = tmp_path / "seqkit" / "translate_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "+h a t" in history.read_text("utf-8")


def cancel(terminal: Terminal) -> None:
    """Begin a translation that would take hours, and stop it."""
    for typed in ("maximum_length=1000000", "maximum_ratio=1000000", "minimum_length=900000"):
        terminal.type(f":set {typed}\r")
        time.sleep(WAIT)
    # Nothing tells when the search has begun: if the signal came before, it is done again.
    for _ in range(20):
        terminal.type("h a t\r")
        time.sleep(2 * WAIT)
        terminal.type("\x03")
        if terminal.shows("cancelled", 2):
            break
    terminal.until("cancelled")
