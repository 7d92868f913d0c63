"""Vocabularies: ids, order, special tokens, and the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.errors import ModelError
from seqkit.text import BOS, EOS, PAD, SPECIAL_TOKENS, UNKNOWN, Vocabulary

ANY_TOKEN = st.text(st.characters(exclude_categories=()), min_size=1)
COUNTS = st.dictionaries(ANY_TOKEN, st.integers(1, 9))


def test_special_ids_are_the_first_four() -> None:
    vocabulary = Vocabulary.from_counts({})
    assert [vocabulary.token(id) for id in (PAD, BOS, EOS, UNKNOWN)] == ["<pad>", "<s>", "</s>", "<unk>"]


@given(COUNTS, st.integers(4, 12), st.integers(1, 5))
def test_the_most_frequent_tokens_are_kept_in_order(counts: dict[str, int], size: int, minimum: int) -> None:
    vocabulary = Vocabulary.from_counts(counts, size=size, minimum_count=minimum)
    kept = vocabulary.tokens[len(SPECIAL_TOKENS) :]
    dropped = set(counts) - set(kept)
    keys = [(-counts[token], token) for token in kept]
    assert len(vocabulary) <= size
    assert keys == sorted(keys)
    assert all(counts[token] >= minimum for token in kept)
    assert len(vocabulary) == size or all(counts[token] < minimum for token in dropped)
    assert all((-counts[token], token) > key for token in dropped for key in keys)
    assert vocabulary.count(UNKNOWN) == sum(counts[token] for token in dropped)


@given(COUNTS)
def test_the_order_of_counting_does_not_matter(counts: dict[str, int]) -> None:
    backwards = dict(reversed(counts.items()))
    assert Vocabulary.from_counts(counts).dump() == Vocabulary.from_counts(backwards).dump()


@given(COUNTS)
def test_ids_and_tokens_are_each_others_inverse(counts: dict[str, int]) -> None:
    vocabulary = Vocabulary.from_counts(counts)
    for token, count in counts.items():
        assert vocabulary.token(vocabulary.id(token)) == token
        assert vocabulary.count(vocabulary.id(token)) == count


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_the_text_of_a_special_token_is_not_its_id(token: str) -> None:
    assert Vocabulary.from_counts({"a": 1}).id(token) == UNKNOWN
    known = Vocabulary.from_counts({token: 1})
    assert known.id(token) == len(SPECIAL_TOKENS)
    assert known.token(known.id(token)) == token


@pytest.mark.parametrize("id", [-1, 5])
def test_an_id_out_of_range_is_an_error(id: int) -> None:
    vocabulary = Vocabulary.from_counts({"a": 1})
    with pytest.raises(IndexError):
        vocabulary.token(id)
    with pytest.raises(IndexError):
        vocabulary.count(id)


@given(COUNTS)
def test_any_token_survives_the_file(counts: dict[str, int]) -> None:
    vocabulary = Vocabulary.from_counts(counts)
    content = vocabulary.dump()
    assert Vocabulary.parse(content, "file") == vocabulary
    assert len(content.decode().splitlines()) == len(vocabulary)  # no program sees other lines


def test_save_and_load(tmp_path: Path) -> None:
    vocabulary = Vocabulary.from_counts({"\t": 3, "a\\u0009": 2, "x\r": 1})
    vocabulary.save(tmp_path / "vocabulary.tsv")
    assert Vocabulary.load(tmp_path / "vocabulary.tsv") == vocabulary
    with pytest.raises(ModelError, match=r"missing\.tsv"):
        Vocabulary.load(tmp_path / "missing.tsv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1"),
        (b"<pad>\t0\n<s>\t0\n</s> 0\n", "line 3"),
        (b"<pad>\t0\n<s>\tmany\n", "line 2"),
        (b"\xff\t0\n", "line 1"),
        (b"a\t0\n", "begins with <pad>"),
        (b"<pad>\t0\n<s>\t0\n</s>\t0\n<unk>\t0\na\t1\na\t1\n", "twice"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=rf"file\.tsv.*{message}"):
        Vocabulary.parse(content, "file.tsv")
