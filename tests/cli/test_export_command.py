"""`seqkit export`: what is told, what is refused, and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seqkit.cli import export_command as export
from seqkit.cli.main import main
from seqkit.exchange import marian


@pytest.mark.slow
def test_a_model_is_exported_and_what_was_compared_is_told(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = pytest.importorskip("ctranslate2")
    folder = tmp_path / "out"
    assert main(["export", "ct2", str(trained), str(folder), "--quantization", "int8"]) == 0
    captured = capfd.readouterr()
    exact, quantised = captured.err.splitlines()
    assert captured.out == ""
    assert exact.startswith(
        f"{folder}: 20 of 20 sentences are translated alike, log-probabilities of tokens differ by "
    )
    assert quantised.startswith("int8: ")
    assert library.contains_model(str(folder))
    assert main(["export", "ct2", str(trained), str(folder)]) == 2
    assert capfd.readouterr().err == f"seqkit: error: {folder} exists\nhint: --overwrite replaces it\n"
    assert main(["export", "ct2", str(trained), str(folder), "--overwrite", "-q"]) == 0
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["ct2", "nowhere", "OUT"], 4, "nowhere is not a model folder"),
        (["marian", "RUN", "OUT"], 2, 'model.norm = "pre" does not fit Marian'),
        (["ct2", "RUN", "OUT", "--quantization", "int7"], 2, "'int7' is not one of"),
        (["ct3", "RUN", "OUT"], 2, "did you mean seqkit export ct2?"),
        (["ct2", "RUN"], 2, "missing argument 'DIR'"),
        (["ct2", "RUN", "OUT", "--overwite"], 2, "did you mean --overwrite?"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(
    words: list[str], code: int, told: str, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(trained), "OUT": str(tmp_path / "out")}
    assert main(["export", *(places.get(word, word) for word in words)]) == code
    captured = capfd.readouterr()
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "module"), [("ct2", "ctranslate2"), ("marian", "transformers")])
def test_without_the_tool_the_command_says_how_to_get_it(
    name: str,
    module: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(marian, "SUPPORTED", {})
    assert main(["export", name, str(trained), str(tmp_path / "out")]) == 2
    assert capfd.readouterr().err.splitlines()[1] == f"hint: pip install '.[{name}]'"
    assert not list(tmp_path.iterdir())


def test_help_shows_examples_and_imports_no_tool(capfd: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["ct2"], ["marian"]):
        assert main(["export", *words, "--help"]) == 0
        shown = capfd.readouterr().out
        assert f"\n  seqkit export {(words or ['ct2'])[0]} runs/en-de " in shown
        assert len(shown.splitlines()) <= 40
    script = (
        "import sys\nfrom seqkit.cli.main import main\nmain(['export', 'ct2', '-h'])\n"
        "assert not {'torch', 'ctranslate2', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)


def test_the_quantisations_are_those_of_the_tool() -> None:
    library = pytest.importorskip("ctranslate2")
    assert sorted(export.QUANTIZATIONS) == sorted(library.specs.model_spec.ACCEPTED_MODEL_TYPES)
