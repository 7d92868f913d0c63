"""Figures per word, character and byte belong to the text, whatever tokens a model makes of it."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.data.datasets import Encoded
from seqkit.engine.token_scores import Blocks, Context, token_log_probs
from seqkit.metrics.perplexity_figures import Perplexity, TextCounts, counts_of
from seqkit.settings import Characters, SentencePiece, Text, Words
from seqkit.state import LogProbs, Memory, State, Step
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import BOS, EOS

LINES = ["the cat saw the café", "", "a naïve Ångström saw 猫", "猫", "the the", "saw a cat"]
CODECS: dict[str, Text] = {
    "characters": Characters(),
    "words": Words(split="spaces"),
    "bpe": SentencePiece(size=300),
    "unigram": SentencePiece(algorithm="unigram", size=275),
}
KNOWN = {"unigram": ["the cat saw a cat", "a saw", "caf n ve"]}  # learnt from; what is not in it is spelt in bytes


class Bytes:
    """Every byte is one of 256, all alike, however bytes are bundled into tokens; a line's end is a byte, too."""

    def __init__(self, codec: Codec) -> None:
        surfaces = [surface.replace("▁", " ") for surface in codec.tokens(range(len(codec)))]
        spelt = [1 if re.fullmatch("<0x..>", surface) else len(surface.encode()) for surface in surfaces]
        self.sizes = torch.tensor(spelt)
        self.sizes[EOS] = 1
        self.spaced = torch.tensor([surface.startswith(" ") for surface in surfaces])
        self.words = isinstance(codec.settings, Words)

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return None, None

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        raise NotImplementedError

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        first = (inputs == BOS) | (inputs == EOS)
        before = ~first & (targets != EOS)  # the space before a word
        added = first & self.spaced[targets]  # what is put before a line to cut its first word like the others
        sizes = self.sizes[targets] + (before.long() if self.words else -added.long())
        return LogProbs(-math.log(256) * sizes.double(), None)


@pytest.mark.parametrize("context", ["lines", "whole", Blocks(8, 3)], ids=str)
@pytest.mark.parametrize("kind", CODECS)
def test_eight_bits_are_a_byte_in_any_tokens(kind: str, context: Context) -> None:
    codec = Codec.learn(KNOWN.get(kind, LINES) * 20, CODECS[kind])
    encoded = Encoded.from_lists(codec.encode_many(LINES))
    values = token_log_probs(Bytes(codec), encoded, context, device=torch.device("cpu"))
    figures = Perplexity(-float(values.sum()), len(values), 0, counts_of(LINES))
    text = "".join(f"{line}\n" for line in LINES)
    assert figures.bits_per_byte == pytest.approx(8, rel=1e-12)
    assert figures.bits_per_character == pytest.approx(8 * len(text.encode()) / len(text), rel=1e-12)
    assert figures.nats_per_character == pytest.approx(math.log(256) * len(text.encode()) / len(text), rel=1e-12)
    words = len(text.replace("\n", " . ").split())
    assert figures.per_word == pytest.approx(256 ** (len(text.encode()) / words), rel=1e-12)
    assert figures.tokens == sum(map(len, codec.encode_many(LINES))) + len(LINES)


def test_the_uniform_model_of_a_vocabulary_has_its_size_for_a_perplexity() -> None:
    figures = Perplexity(12 * math.log(50), 12, 3, TextCounts(2, 6, 30, 36))
    assert figures.per_token == pytest.approx(50)
    assert figures.per_word == pytest.approx(50**2)
    assert figures.bits_per_character == pytest.approx(12 * math.log2(50) / 30)
    assert figures.bits_per_byte == pytest.approx(12 * math.log2(50) / 36)
    assert figures.unknown_share == 0.25


@pytest.mark.parametrize(
    ("line", "words", "characters", "size"),
    [
        ("", 1, 1, 1),
        ("a", 2, 2, 2),
        ("  two\twords ", 3, 13, 13),
        ("café", 2, 5, 6),
        ("no\u00a0break 猫", 4, 11, 14),
        ("\udcff", 2, 2, 4),  # a byte that was not UTF-8
    ],
)
def test_a_lines_end_is_a_word_a_character_and_a_byte(line: str, words: int, characters: int, size: int) -> None:
    assert counts_of([line]) == TextCounts(1, words, characters, size)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")), max_size=8))
def test_counts_are_those_of_the_file(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    counts = counts_of(iter(lines))
    assert (counts.lines, counts.characters, counts.bytes) == (len(lines), len(text), len(text.encode()))
    assert counts.words == sum(len(line.split()) for line in lines) + len(lines)
    assert counts == counts_of(lines[:3]) + counts_of(lines[3:])


def test_what_is_too_large_is_infinite_and_nothing_is_no_error() -> None:
    assert Perplexity(1e6, 1, 0, TextCounts(1, 1, 1, 1)).per_token == math.inf
    nothing = Perplexity(0.0, 0, 0, TextCounts(0, 0, 0, 0))
    assert (nothing.per_token, nothing.per_word, nothing.bits_per_byte, nothing.unknown_share) == (1, 1, 0, 0)
