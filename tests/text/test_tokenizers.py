"""Tokenizers: joining undoes splitting, learning is reproducible, mistakes are explained."""

from __future__ import annotations

import os
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.text.tokenizers import CharacterTokenizer, SentencePieceTokenizer, WordTokenizer

TEXT = ("the cat sat on the mat", "a dog and a cat, a mat and a hat", "that is that") * 4
WILD = st.text(st.sampled_from("ab1 .,()'\"-_\u0301\u093e\u200d\uffed\u2047\u2581🙂$")) | st.text()
Algorithm = Literal["bpe", "unigram"]


@given(WILD)
def test_joined_characters_are_the_text(text: str) -> None:
    assert CharacterTokenizer().join(CharacterTokenizer().split(text)) == text


@pytest.mark.parametrize("by", ["punctuation", "spaces"])
@given(text=WILD)
def test_joined_words_are_the_text_but_for_white_space(by: Literal["punctuation", "spaces"], text: str) -> None:
    words = WordTokenizer(by)
    assert words.join(words.split(text)) == " ".join(text.split())
    assert not any(character.isspace() for token in words.split(text) for character in token)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Well, yes.", "Well ￭, yes ￭."),
        ('(see "it")', '(￭ see "￭ it ￭" ￭)'),
        ("don't 3.14 -", "don ￭'￭ t 3 ￭.￭ 14 -"),
        ("हिन्दी।", "हिन्दी ￭।"),
        ("snake_case", "snake ￭_￭ case"),
    ],
)
def test_where_words_end(text: str, tokens: str) -> None:
    assert WordTokenizer().split(text) == tokens.split(" ")
    assert WordTokenizer("spaces").split(text) == text.split(" ")


def learn(algorithm: Algorithm, size: int, *, lines: tuple[str, ...] = TEXT) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.learn(lines, algorithm=algorithm, size=size, byte_fallback=False)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_the_same_text_gives_the_same_model_on_any_machine(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for cores in (1, 64):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        models.append(learn(algorithm, 22).model)
    assert models[0] == models[1]


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("size", [5, 5000])
def test_a_size_that_the_text_does_not_support_is_met_with_one_that_it_does(algorithm: Algorithm, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"text\.size: {size} pieces asked") as caught:
        learn(algorithm, size)
    assert caught.value.hint is not None
    proposed = int(caught.value.hint.removeprefix("set text.size=").split(" ")[0])
    assert len(learn(algorithm, proposed).pieces()) == proposed


@pytest.mark.parametrize("lines", [(), ("",)])
def test_no_text_is_an_error(lines: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="empty"):
        learn("bpe", 20, lines=lines)


def test_no_line_is_passed_over() -> None:
    long_line = "z" + " cat" * 5000
    pieces = learn("bpe", 22, lines=(*TEXT, long_line, "q \u2585")).pieces()
    assert {"z", "q"} <= set(pieces)


def test_learning_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    learn("bpe", 22).encode(["the cat"])
    with pytest.raises(ConfigError):
        learn("bpe", 5000)
    with pytest.raises(ModelError):
        SentencePieceTokenizer(b"junk")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model", [b"", b"junk"])
def test_a_damaged_model_is_refused(model: bytes) -> None:
    with pytest.raises(ModelError, match="damaged"):
        SentencePieceTokenizer(model)
    with pytest.raises(ModelError, match="damaged"):
        SentencePieceTokenizer(learn("bpe", 22).model[:200])
