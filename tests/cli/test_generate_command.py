"""`seqkit generate` as typed: a text a line in a pipe, token by token at a terminal, mistakes in two lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from seqkit.cli.main import main
from seqkit.inference.writer import Generated, Writer
from seqkit.settings import Lines, Recipe, RecurrentLanguageModel, Search
from tests.support.pipes import output_of
from tests.support.writer import SENTENCES, tiny_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def stream_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_run(tmp_path_factory.mktemp("generate"), "stream"))


@pytest.fixture(scope="module")
def line_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_run(tmp_path_factory.mktemp("generate"), "lines"))


def through(words: Sequence[str], given: bytes = b"", *, terminal: bool = False) -> str:
    """What the command writes for these bytes, and that it ends well."""
    return output_of(["generate", *words], given, terminal=terminal).decode()


@pytest.mark.slow
def test_in_a_pipe_each_text_is_a_line(stream_run: str) -> None:
    out = through([stream_run, "the ", "--samples", "70", "--temperature", "3", "--length", "50"])
    lines = out.splitlines()
    assert len(lines) == out.count("\n") == 70  # more than a block
    assert all(line.startswith("the ") for line in lines)
    assert len(set(lines)) == 70
    assert any("\\n" in line for line in lines)


def test_prompts_come_from_standard_input_a_line_each(line_run: str) -> None:
    out = through([line_run, "-", "--samples", "2", "--greedy"], b"the cat\na bi\r\n\nthe d")
    empty = out.splitlines()[4]
    assert out.splitlines() == [line for i in (0, 2) for line in [SENTENCES[i]] * 2] + [empty] * 2 + [SENTENCES[1]] * 2
    assert through([line_run, "-"], b"") == ""


def test_a_seed_repeats_the_texts_and_is_told(stream_run: str, capsys: Captured) -> None:
    words = [stream_run, "--samples", "3", "--length", "30", "--temperature", "1.5"]
    first = through(words)
    seed = capsys.readouterr().err.split("--seed ")[1].strip()
    assert through([*words, "--seed", seed]) == first
    assert through(words) != first
    assert through([*words, "-q"])
    assert capsys.readouterr().err.count("--seed") == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--length 9 --temperature 0.5 --top-k 4 --nucleus 0.9 --seed 1",
            Search(temperature=0.5, top_k=4, nucleus=0.9, maximum_length=9, seed=1),
        ),
        ("--repetition-penalty 1.5 --no-repeat 3 --seed 8", Search(repetition_penalty=1.5, no_repeat=3, seed=8)),
        ("--greedy --no-repeat 2", Search(top_k=1, no_repeat=2)),
    ],
)
def test_every_option_arrives(words: str, expected: Search, stream_run: str) -> None:
    with patch.object(Writer, "generate", return_value=[]) as generate:
        through([stream_run, "x", *words.split()])
    search = generate.call_args.kwargs["search"]
    expected = replace(expected, method="sample", maximum_length=9 if "--length" in words else 256)
    assert search == (replace(expected, seed=search.seed) if "--seed" not in words else expected)


@pytest.mark.parametrize(
    "words", ["search.top_k=4 search.seed=3", "--top-k 4 search.seed=3", "search.seed=3 --top-k 4"]
)
def test_search_settings_and_their_short_forms_are_one(words: str, stream_run: str) -> None:
    with patch.object(Writer, "generate", return_value=[]) as generate:
        through([stream_run, "x", *words.split()])
    assert generate.call_args.kwargs["search"] == Search(method="sample", top_k=4, seed=3, maximum_length=256)


def test_a_beam_by_its_setting_is_a_beam(line_run: str) -> None:
    short = through([line_run, "the", "--beam", "3", "--length", "7"])
    assert through([line_run, "the", "search.method=beam", "search.beam=3", "search.maximum_length=7"]) == short


def test_temperature_zero_is_greedy(stream_run: str) -> None:
    assert through([stream_run, "the", "--temperature", "0"]) == through([stream_run, "the", "--greedy"])


def test_jsonl_keeps_line_breaks_and_adds_figures(stream_run: str, line_run: str) -> None:
    [record] = map(json.loads, through([stream_run, "the cat", "--greedy", "--format", "jsonl"]).splitlines())
    assert "\n" in record["text"]
    assert (record["id"], record["prompt"], record["tokens"], record["finished"]) == (1, "the cat", 256, False)
    [record] = map(json.loads, through([line_run, "a", "--greedy", "--format", "jsonl"]).splitlines())
    assert record["text"] == SENTENCES[2]
    assert (record["tokens"], record["finished"]) == (len(SENTENCES[2]), True)
    assert record["log_prob"] < 0


def test_a_beam_gives_its_best(line_run: str) -> None:
    records = list(
        map(json.loads, through([line_run, "the", "--beam", "4", "--samples", "2", "--format", "jsonl"]).splitlines())
    )
    assert [record["id"] for record in records] == [1, 2]
    assert records[0]["text"] in SENTENCES
    assert all(len(text) <= 9 for text in through([line_run, "the", "--beam", "2", "--length", "6"]).splitlines())


def test_a_terminal_shows_what_a_pipe_gets_with_its_line_breaks(stream_run: str) -> None:
    words = [stream_run, "the ", "--samples", "2", "--length", "40", "--temperature", "3", "--seed", "3"]
    texts = [line.replace("\\n", "\n") for line in through(words).splitlines()]
    assert through(words, terminal=True) == "\n\n".join(texts) + "\n"


class Hostile:
    """A writer whose texts would steer a terminal."""

    text = "a\x1b[2J\nb\u202e"
    loaded = SimpleNamespace(recipe=Recipe(data=Lines(train=("x",)), model=RecurrentLanguageModel()))

    def stream(self, prompt: str, *, search: Search, number: int = 0) -> Iterator[str]:
        yield from self.text

    def generate(self, prompts: Sequence[str], *, search: Search, first: int = 0) -> list[Generated]:
        return [Generated(prompt, self.text, (), 0.0, True) for prompt in prompts]

    def search(self, prompt: str, *, search: Search) -> list[Generated]:
        return self.generate([prompt], search=Search())


@pytest.mark.parametrize("words", ["--format text", "--format jsonl", "--beam 2"])
def test_no_text_steers_a_terminal(words: str) -> None:
    with patch.object(Writer, "load", lambda *_, **__: Hostile()):
        shown = through(["run", *words.split()], terminal=True)
        piped = through(["run", *words.split()])
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[2J" in shown
    assert len(shown.splitlines()) == (2 if words == "--format text" else 1)
    assert piped.count("\n") == 1
    assert "\u202e" in piped


def test_bad_bytes_in_a_prompt_are_replaced(line_run: str) -> None:
    [record] = map(json.loads, through([line_run, "a\udcff", "--length", "3", "--format", "jsonl"]).splitlines())
    assert record["prompt"] == "a\ufffd"
    [record] = map(json.loads, through([line_run, "-", "--length", "3", "--format", "jsonl"], b"\xff\0").splitlines())
    assert record["prompt"] == "\ufffd "


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        ("--top-k -1", 2, "search.top_k must be an integer >= 0, not -1"),
        ("--temperature nan", 2, "search.temperature must be a number >= 0.001 and <= 1000, not nan"),
        ("--nucleus 0", 2, "search.nucleus must be a number > 0 and <= 1, not 0.0"),
        ("--length 0", 2, "search.maximum_length must be an integer >= 1, not 0"),
        ("--beam 2 --length 0", 2, "search.maximum_length must be an integer >= 1, not 0"),
        ("--samples 0", 2, "--samples"),
        ("--greedy --temperature 0.5", 2, "--temperature has no effect with --greedy"),
        ("--beam 2 --no-repeat 2", 2, "--no-repeat has no effect with --beam"),
        ("--beam 2 --samples 3", 2, "--beam 2 cannot give 3 texts"),
        ("--beam 0", 2, "--beam 0"),
        ("--seed -1", 2, "search.seed must be an integer >= 0, not -1"),
        ("--toppk 3", 2, "unknown option --toppk"),
        ("--device moon", 2, "moon"),
    ],
)
def test_mistakes_are_two_lines(words: str, code: int, what: str, line_run: str, capsys: Captured) -> None:
    assert main(["generate", line_run, *words.split()]) == code
    out, err = capsys.readouterr()
    assert out == ""
    [error, hint] = err.strip().splitlines()
    assert what in error
    assert hint.startswith("hint: ")


def test_a_translation_model_is_refused(trained: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["generate", str(trained)]) == 4
    assert f"seqkit translate {trained}" in capsys.readouterr().err
    assert main(["generate", str(tmp_path / "none")]) == 4


def test_help_shows_examples_first(capsys: Captured) -> None:
    assert main(["generate", "--help"]) == 0
    out = capsys.readouterr().out
    assert "\n  seqkit generate runs/timemachine --samples 10" in out
    assert "line breaks in it written as \\n;" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100
