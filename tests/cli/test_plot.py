"""Figures as files: the same bytes for the same figure, any characters, and a remedy where matplotlib is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seqkit.cli.plot import FORMS, Form, empty, rendered, write
from seqkit.errors import ConfigError, ResourceError

BEGINNINGS: dict[Form, bytes] = {"png": b"\x89PNG", "svg": b"<?xml"}


@pytest.mark.parametrize("form", FORMS)
def test_equal_figures_are_equal_bytes_whatever_characters_they_have(form: Form) -> None:
    pytest.importorskip("matplotlib")
    contents = []
    for _ in range(2):
        figure = empty(2, 1)
        figure.subplots().plot([0, 1])
        figure.text(0, 0, "日本 \u05d0 \U0010ffff")  # no font has all of them, and filters make warnings errors
        contents.append(rendered(figure, form))
    assert contents[0].startswith(BEGINNINGS[form])
    assert contents[0] == contents[1]


def test_a_figure_has_the_size_that_was_asked_for() -> None:
    pytest.importorskip("matplotlib")
    content = rendered(empty(3, 2), "png")
    assert [int.from_bytes(content[start : start + 4], "big") for start in (16, 20)] == [450, 300]


def test_without_matplotlib_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match="plotting needs matplotlib") as caught:
        empty(1, 1)
    assert caught.value.hint == "pip install '.[plot]'"


def test_where_a_file_was_written_is_said_with_its_name_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a\x07.png"), b"figure")
    assert capsys.readouterr() == ("", "written to a\\x07.png\n")
    assert Path("a\x07.png").read_bytes() == b"figure"
    with pytest.raises(ResourceError, match=r"cannot write none/a\.png"):
        write(Path("none/a.png"), b"figure")
