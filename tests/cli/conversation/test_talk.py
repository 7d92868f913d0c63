"""What a conversation translates and shows: the bare text on stdout, all else dim, and nothing that is forged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from seqkit.inference.translator import Translator
from seqkit.search.forced_score import ForcedScore
from seqkit.settings import Words
from seqkit.system.terminal import HIDDEN
from tests.support.conversations import HOSTILE, Changed, Say, best


def test_the_bare_translation_is_all_that_stdout_gets(say: Say, translator: Translator) -> None:
    out, err = say("h a t")
    assert out == best(translator, "h a t") + "\n"
    assert "score -" in err
    assert "3+" in err
    assert "unknown: none" in err
    assert "unknown: 1" in say("h a @")[1]
    assert say("  ") == say("") == ("", "")
    assert len(say.session.translations) == 2


def test_a_prefix_stays_until_it_is_taken_away(say: Say, translator: Translator) -> None:
    say(":prefix z z")
    assert say("h a t")[0].startswith("z z ")
    say(":prefix")
    assert say("h a t")[0] == best(translator, "h a t") + "\n"


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


def test_time_is_said_in_parts(say: Say) -> None:
    say(":time on")
    line = say("h a t")[1].splitlines()[1]
    assert [word for word in line.split() if word.isalpha()] == ["tokenise", "ms", "search", "ms", "detokenise", "ms"]
    assert line.endswith(" tokens/s")


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
