"""`seqkit attend`: the weights are the model's, the picture fits, files are written once, mistakes have their codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from seqkit.cli.main import main
from seqkit.errors import ModelError
from seqkit.inference.heat_map import NOTE, SHADES, Alignment, heat_map
from seqkit.inference.translator import Translator
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.system.terminal import HIDDEN
from tests.support.pipes import standard_input

Captured = pytest.CaptureFixture[str]

HOSTILE = "a\x1b[2J \x9b31m\u202eb\x07 $\\frac [/foo]"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def attend(capture: Captured, *words: str, given: bytes = b"") -> list[str]:
    """What the command prints, and that it ends well."""
    capture.readouterr()
    with standard_input(given):
        assert main(["attend", *words]) == 0
    return capture.readouterr().out.split("\n")[:-1]


def test_columns_are_source_words_and_rows_those_of_the_translation(trained: Path, capsys: Captured) -> None:
    translator = Translator.load(trained, device="cpu")
    [found] = translator.translate(["h a t s"])
    shown = attend(capsys, str(trained), "h a t s", "--npz", "a.npz")
    assert shown[0].split() == ["h", "a", "t", "s"]
    assert [row.split()[0] for row in shown[1:-1]] == found.text.split()
    assert shown[-1] == NOTE
    with np.load("a.npz") as kept:
        assert kept["source"].tolist() == ["h", "a", "t", "s"]
        assert kept["target"].tolist() == found.text.split()
        assert kept["weights"].shape == (len(found.text.split()), 4)
        np.testing.assert_allclose(kept["weights"].sum(1), 1, atol=0.02)
        np.testing.assert_allclose(kept["weights"], translator.align("h a t s", found).weights)
        assert shown == heat_map(kept["source"], kept["target"], kept["weights"], width=80, colour=False)


def test_settings_are_obeyed_and_another_translation_can_be_looked_at(trained: Path, capsys: Captured) -> None:
    shown = attend(capsys, str(trained), "h a t", "search.maximum_length=1")
    assert len(shown) == 3
    shown = attend(capsys, str(trained), "h a t", "--target", "t z h q", "--npz", "a.npz")
    assert [row.split()[0] for row in shown[1:4]] == ["t", "z", "h"]
    with np.load("a.npz") as kept:
        expected = Translator.load(trained, device="cpu").align("h a t", "t z h q").weights
        np.testing.assert_allclose(kept["weights"], expected)


def test_a_layer_and_a_head_can_be_looked_at(trained: Path, capsys: Captured) -> None:
    translator = Translator.load(trained, device="cpu")
    attend(capsys, str(trained), "h a t", "--target", "t z h", "--layer", "1", "--head", "2", "--npz", "a.npz")
    with np.load("a.npz") as kept:
        np.testing.assert_allclose(kept["weights"], translator.align("h a t", "t z h", layer=1, head=2).weights)
        assert not np.allclose(kept["weights"], translator.align("h a t", "t z h", layer=1, head=1).weights)


@pytest.mark.parametrize("width", [8, 20, 33, 200])
def test_no_line_is_wider_than_the_terminal(
    width: int, trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for row in attend(capsys, str(trained), " ".join("hat" * 8), "--target", " ".join("tah" * 8)):
        assert len(row) <= width


def test_without_colour_the_shades_are_plain_characters(
    trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[38;5" in "".join(attend(capsys, str(trained), "h a t"))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = attend(capsys, str(trained), "h a t", "--target", "t a h")
    assert {letter for row in shown[1:4] for letter in row[1:]} <= set(SHADES)
    assert "\x1b" not in "".join(shown)


def test_lines_of_standard_input_are_looked_at_one_by_one(trained: Path, capsys: Captured) -> None:
    given = b"h a t\n\no n \xff\n"
    shown = attend(capsys, str(trained), given=given)
    assert shown == attend(capsys, str(trained), "-", given=given)
    first, second = attend(capsys, str(trained), "h a t"), attend(capsys, str(trained), "o n \ufffd")
    assert shown == [*first, "", NOTE, "", *second]


def test_a_text_that_is_too_long_is_looked_at_in_parts_or_cut(trained: Path, capsys: Captured) -> None:
    text = " ".join("hat" * 200)
    rows = attend(capsys, str(trained), text, "search.patience=0")
    assert len(rows) > 200
    assert main(["attend", str(trained), text, "--target", "t a h"]) == 0
    assert "the rest is left out" in capsys.readouterr().err


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [HOSTILE, "日本", "$\\frac$"]
    weights = [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]
    monkeypatch.setattr(Translator, "align", lambda *_, **__: Alignment(words, words, weights))


@pytest.mark.usefixtures("hostile")
def test_foreign_text_is_shown_escaped(trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in ("40", "120", "400"):
        monkeypatch.setenv("COLUMNS", width)
        shown = "".join(attend(capsys, str(trained), "h a t"))
        assert "\\x1b" in shown
        assert not HIDDEN.search(shown)


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
def test_pictures_are_drawn_of_any_words(trained: Path, capsys: Captured) -> None:
    pytest.importorskip("matplotlib")
    words = ["--png", "a\x07.png", "--svg", "a.svg", "--npz", "a.npz"]
    assert main(["attend", str(trained), "h a t", *words]) == 0
    assert capsys.readouterr().err == "written to a\\x07.png\nwritten to a.svg\nwritten to a.npz\n"
    assert Path("a\x07.png").read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in Path("a.svg").read_bytes()
    assert main(["attend", str(trained), "h a t", "--svg", "b.svg", "-q"]) == 0
    assert Path("b.svg").read_bytes() == Path("a.svg").read_bytes()
    assert capsys.readouterr().err == ""
    with np.load("a.npz") as kept:
        assert kept["source"].tolist() == [HOSTILE, "日本", "$\\frac$"]


def test_a_picture_of_many_words_stays_within_bounds(trained: Path) -> None:
    pytest.importorskip("matplotlib")
    text = " ".join("hat" * 40)
    assert main(["attend", str(trained), text, "--target", f"{'x' * 300} t", "--png", "a.png", "-q"]) == 0
    width, height = (int.from_bytes(Path("a.png").read_bytes()[start : start + 4], "big") for start in (16, 20))
    assert width <= 30 * 150
    assert height <= 5 * 150


def test_files_are_overwritten_only_when_that_is_wanted(trained: Path, capsys: Captured) -> None:
    Path("a.npz").write_bytes(b"old")
    words = ["attend", str(trained), "h a t", "--npz", "a.npz"]
    with patch.object(Translator, "load", side_effect=AssertionError):  # it is told before the work
        assert main(words) == 2
    assert capsys.readouterr() == ("", "seqkit: error: a.npz exists\nhint: --overwrite replaces it\n")
    assert Path("a.npz").read_bytes() == b"old"
    assert main([*words, "--overwrite"]) == 0
    assert Path("a.npz").read_bytes() != b"old"
    assert main(["attend", str(trained), "h a t", "--npz", "none/a.npz"]) == 5


def test_without_matplotlib_the_remedy_is_told_before_the_work(
    trained: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for form in ("png", "svg"):
        assert main(["attend", str(trained), "h a t", f"--{form}", "a"]) == 2
        assert capsys.readouterr() == ("", "seqkit: error: plotting needs matplotlib\nhint: pip install '.[plot]'\n")
    assert main(["attend", str(trained), "h a t", "--npz", "a.npz"]) == 0


def test_a_model_without_attention_is_an_error_of_its_own(trained: Path, capsys: Captured) -> None:
    with patch.object(EncoderDecoder, "alignment", side_effect=ModelError("this model has no attention", "train one")):
        assert main(["attend", str(trained), "h a t"]) == 4
    assert capsys.readouterr() == ("", "seqkit: error: this model has no attention\nhint: train one\n")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["nowhere", "h a t"], 4, "nowhere is not a model folder"),
        (["RUN", "h a t", "search.bean=3"], 2, "unknown setting search.bean"),
        (["RUN", "h a t", "model.width=3"], 2, "model.width=3 has no effect"),
        (["RUN", "--npz", "a.npz"], 2, "--npz is for one text, and standard input has 2 lines"),
        (["RUN", "--target", "t"], 2, "--target is for one text, and standard input has 2 lines"),
        (["RUN", " ", "--npz", "a.npz"], 3, "there is nothing to draw"),
        (["RUN", "h a t", "--target", "", "--npz", "a.npz"], 3, "there is nothing to draw"),
        (["RUN", "h a t", "--layer", "99"], 2, "the model's attention has no layer 99"),
        (["RUN", "h a t", "--head", "0"], 2, "the model's attention has no head 0"),
        (["RUN", "h a t", "more"], 2, "unexpected extra argument"),
        ([], 2, "missing argument"),
    ],
)
def test_mistakes_have_their_codes(words: Sequence[str], code: int, told: str, trained: Path, capsys: Captured) -> None:
    with standard_input(b"a\nb\n"):
        assert main(["attend", *(word.replace("RUN", str(trained)) for word in words)]) == code
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 2
    assert not Path("a.npz").exists()


def test_help_is_short_and_shows_examples(capsys: Captured) -> None:
    assert main(["attend", "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 40
    assert "\n  seqkit attend " in shown
