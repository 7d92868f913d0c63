"""The labelled demonstration: distinct, reproducible, and a label follows from the words around, not from the word."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path

import pytest

from seqkit.data.labelled_text import LabelledText, read_labelled
from seqkit.demo import labelled_corpus as labels_demo
from seqkit.errors import ConfigError
from seqkit.metrics.label_scores import label_scores

TRAIN, DEV, TEST = labels_demo.splits()
COUNTS = Counter(chain.from_iterable(TRAIN.tokens))
RARE = 2  # words that are rarer in training are unknown to a model


def pairs(*texts: LabelledText) -> list[tuple[str, str]]:
    return [
        pair
        for text in texts
        for tokens, labels in zip(text.tokens, text.labels, strict=True)
        for pair in zip(tokens, labels, strict=True)
    ]


def spans(text: LabelledText) -> set[tuple[str, str]]:
    """Each span's type and its words."""
    found: list[tuple[str, list[str]]] = []
    for token, label in pairs(text):
        if label.startswith("B-"):
            found.append((label[2:], [token]))
        elif label.startswith("I-"):
            assert found[-1][0] == label[2:]
            found[-1][1].append(token)
    return {(kind, " ".join(words)) for kind, words in found}


def test_sizes_and_no_sentence_twice() -> None:
    assert [len(part) for part in (TRAIN, DEV, TEST)] == [4000, 300, 500]
    assert len({tuple(tokens) for part in (TRAIN, DEV, TEST) for tokens in part.tokens}) == 4800


def test_the_seed_decides_and_a_smaller_text_is_the_beginning() -> None:
    few = labels_demo.sentences(50, seed=3)
    assert few == labels_demo.sentences(50, seed=3)
    assert few.tokens == labels_demo.sentences(80, seed=3).tokens[:50]
    assert few != labels_demo.sentences(50, seed=4)


@pytest.mark.parametrize("count", [-1, 100_001])
def test_an_impossible_count_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="cannot make"):
        labels_demo.sentences(count, seed=1)


def test_it_can_be_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "test.conll").write_bytes(TEST.dump())
    assert read_labelled([tmp_path / "test.conll"]) == TEST


def test_labels_follow_their_scheme() -> None:
    scores = label_scores(TEST.labels, TEST.labels)
    assert scores.scheme == "IOB2"
    assert list(scores.types) == ["DATE", "LOC", "MONEY", "PER"]
    assert all(counts.expected > 50 for counts in scores.types.values())


def test_spans_hold_what_their_type_says() -> None:
    found = spans(TRAIN)
    for kind, text in found:
        words = text.split()
        if kind == "MONEY":
            assert words[-1] in labels_demo.CURRENCIES or words[0] in "$£€"
        elif kind == "DATE":
            assert {*words} & {*labels_demo.MONTHS, *labels_demo.WEEKDAYS} or re.fullmatch(r"(19|20)\d\d", text)
        else:
            assert text.replace(" ", "").isalpha()
            assert 1 <= len(words) <= 2
    assert {("PER", "May"), ("DATE", "May"), ("PER", "Paris"), ("LOC", "Paris")} <= found


def test_words_alone_do_not_tell_the_label() -> None:
    """Each word's most frequent label in training, and for unknown words that of rare ones, is often wrong."""
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for token, label in pairs(TRAIN):
        seen[token if COUNTS[token] >= RARE else ""][label] += 1
    best = {token: labels.most_common(1)[0][0] for token, labels in seen.items()}
    guesses = [[best.get(token, best[""]) for token in tokens] for tokens in TEST.tokens]
    scores = label_scores(guesses, TEST.labels)
    assert scores.f1 is not None
    assert scores.f1 < 60
    assert scores.accuracy < 85


def test_names_and_numbers_are_ambiguous() -> None:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for token, label in pairs(TRAIN):
        labels[token].add(label)
    assert all(labels[name] == {"B-PER", "I-PER", "B-LOC", "I-LOC"} for name in labels_demo.SHARED)
    assert {"B-PER", "B-DATE", "O"} <= labels["May"]
    assert {"B-DATE", "I-DATE", "O"} <= labels["20"] | labels["1984"]
    assert {"O", "I-MONEY"} <= labels["pounds"]


def test_the_words_around_tell_every_label() -> None:
    """A name by itself says nothing: masked, sentences of one shape have the same labels throughout the corpus."""
    months, prefixes, titles = {*labels_demo.MONTHS}, {*labels_demo.PREFIXES}, {*labels_demo.TITLES}
    lists = (labels_demo.SHARED, labels_demo.PLACES, labels_demo.FIRST_NAMES, labels_demo.SURNAMES)
    names = {*chain(*lists)} - months - prefixes - titles

    def shape(tokens: list[str]) -> tuple[str, ...]:
        return tuple(
            "NAME" if token in names or COUNTS[token] < RARE else "9" if token.isdecimal() else token
            for token in tokens
        )

    labelled: dict[tuple[str, ...], list[str]] = {}
    sentences = [pair for part in (TRAIN, DEV, TEST) for pair in zip(part.tokens, part.labels, strict=True)]
    for tokens, labels in sentences:
        assert labelled.setdefault(shape(tokens), labels) == labels
    assert len(labelled) < 0.9 * len(sentences)  # or the test would say nothing


def test_unseen_words_stand_where_unseen_words_were_learnt() -> None:
    """Every label that an unknown word has in the test part, rare words have in training."""
    rare = {label for token, label in pairs(TRAIN) if COUNTS[token] < RARE}
    unknown = [label for token, label in pairs(DEV, TEST) if COUNTS[token] < RARE]
    assert set(unknown) <= rare
    assert len(unknown) > 200
