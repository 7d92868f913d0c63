"""Options that take files, and settings among the words of a command."""

from __future__ import annotations

import ast
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from seqkit.cli import file_arguments as files


@click.command(cls=files.Command)
@click.argument("recipe", required=False)
@files.option("--train", help="Files.")
@files.option("--dev", "-d", help="Files.")
@click.option("--out", "-o")
@click.option("--overwrite", is_flag=True)
@click.option("-w", "width", count=True)
@files.settings
def example(
    recipe: str | None,
    train: tuple[str, ...],
    dev: tuple[str, ...],
    out: str | None,
    overwrite: bool,
    width: int,
    overrides: tuple[str, ...],
) -> None:
    click.echo(repr((recipe, train, dev, out, overwrite, overrides)))


def parsed(*words: str) -> object:
    done = CliRunner().invoke(example, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return ast.literal_eval(done.output)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--train a b --out run", (None, ("a", "b"), (), "run", False, ())),
        ("--out run --train a b", (None, ("a", "b"), (), "run", False, ())),
        ("--train a.{en,de} -d b.{en,de}.gz", (None, ("a.en", "a.de"), ("b.en.gz", "b.de.gz"), None, False, ())),
        ("--train=a b --dev c", (None, ("a", "b"), ("c",), None, False, ())),
        ("--train a --train b", (None, ("a", "b"), (), None, False, ())),
        ("--train a --overwrite r.toml", ("r.toml", ("a",), (), None, True, ())),
        ("--train a model.width=3 r.toml", ("r.toml", ("a",), (), None, False, ("model.width=3",))),
        ("x=1 r.toml y.z=2", ("r.toml", (), (), None, False, ("x=1", "y.z=2"))),
        ("--set x=1 y=2", (None, (), (), None, False, ("x=1", "y=2"))),
        ("--out a=b", (None, (), (), "a=b", False, ())),
        ("--out=a=b ./c=d", ("./c=d", (), (), "a=b", False, ())),
        ("--train - -o -x", (None, ("-",), (), "-x", False, ())),
        ("-ww r.toml", ("r.toml", (), (), None, False, ())),
        ("-- x=1", ("x=1", (), (), None, False, ())),
        ("", (None, (), (), None, False, ())),
    ],
)
def test_words_go_where_they_belong(words: str, expected: object) -> None:
    assert parsed(*words.split()) == expected


def test_a_value_of_a_setting_may_hold_anything() -> None:
    assert parsed('data.train=["a b", "c"]', "name=x=y\nz") == (
        None,
        (),
        (),
        None,
        False,
        ('data.train=["a b", "c"]', "name=x=y\nz"),
    )


@pytest.mark.parametrize("words", [["--train"], ["--out"], ["--train", "--out"]])
def test_an_option_without_its_word_is_an_error(words: list[str]) -> None:
    assert CliRunner().invoke(example, words).exit_code == 2


@given(st.lists(st.sampled_from(["--train", "--out", "--", "-x", "a", "b=c", "--train=a", "", "-"])))
def test_no_word_is_lost_and_the_order_stays(words: list[str]) -> None:
    try:
        spread = files.spread(words, files={"--train"}, values={"--out"}, settings=True)
    except click.BadOptionUsage:
        assert "--train" in words
        return
    waiting = iter(spread)
    for word in words:
        assert any(word in (found, f"--train={found}") for found in waiting)


def test_the_shell_and_we_expand_alike() -> None:
    script = f"{sys.executable} -c 'import sys; print(sys.argv[1:])' --train x.{{en,de}} --out run"
    shell = ast.literal_eval(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout)
    assert shell == ["--train", "x.en", "x.de", "--out", "run"]
    assert parsed(*shell) == parsed("--train", "x.{en,de}", "--out", "run")


def test_a_command_without_settings_leaves_equals_signs_alone() -> None:
    assert files.spread(["a=b"], files={"--train"}, values=set(), settings=False) == ["a=b"]
