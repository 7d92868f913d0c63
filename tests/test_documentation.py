"""What the documentation shows is what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

import seqkit
from seqkit import config, errors
from seqkit.inference import translator
from seqkit.runs.trained_model import load


def examples_run(module: ModuleType, **names: object) -> int:
    """Run the examples of a module's docstring; how many there are."""
    examples = doctest.DocTestParser().get_doctest(module.__doc__ or "", names, module.__name__, None, 0)
    output: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=output.append)
    assert not output, "".join(output)
    return len(examples.examples)


def test_the_examples_of_the_translator_run(trained: Path) -> None:
    assert examples_run(translator, **vars(translator), run=trained) > 5


def test_the_examples_of_the_package_run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(config.dump(load(trained).recipe), encoding="utf-8")
    assert examples_run(seqkit) > 6


def test_every_public_name_is_there_and_the_whole_error_tree_is() -> None:
    for name in seqkit.__all__:
        assert getattr(seqkit, name) is not None
    assert {name for name in errors.__all__ if name[0].isupper()} <= set(seqkit.__all__)


def test_the_readme_of_the_tests_lists_every_law_and_what_tests_share() -> None:
    here = Path(__file__).parent
    text = (here / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(test_\w+\.py)` \|", text, re.MULTILINE)) == {
        path.name for path in here.glob("laws/test_*.py")
    }
    listed = " ".join(re.findall(r"^\* (`[^:]*):", text, re.MULTILINE))
    shared = {path.stem for path in here.glob("support/[a-z]*.py")}
    assert shared <= set(re.findall(r"\w+", listed))
