"""The commands of a conversation: what each changes and shows, every mistake, and the completion of their words."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from seqkit.cli.conversation import showing
from seqkit.cli.conversation.answering import FENCE
from seqkit.cli.conversation.commands import COMMANDS, complete
from seqkit.cli.conversation.showing import Span
from seqkit.cli.conversation.talk import Conversation
from seqkit.data.corpora import read_pairs
from seqkit.inference.translator import Translator
from seqkit.search.forced_score import ForcedScore
from seqkit.system.terminal import HIDDEN
from tests.support.conversations import Changed, Say, best


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


def test_switches_go_on_off_and_over(say: Say) -> None:
    for name in ("align", "tokens", "time", "protect"):
        for words, on in (("on", True), ("on", True), ("", False), ("", True), ("off", False)):
            assert say(f":{name} {words}") == ("", "")
            assert (name in say.session.switches) == on


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


def test_help_has_every_command(say: Say) -> None:
    shown = say(":help")[1]
    assert [row.split()[0] for row in shown.splitlines()[:-1]] == [f":{name}" for name in COMMANDS]
    assert max(map(len, shown.splitlines())) <= 100
    assert "greedy" in say(":help beam")[1]
    assert say(":help :beam") == say(":help beam")


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
