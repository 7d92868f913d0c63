"""Scores of labelled text: right tokens, and right spans as conlleval counts them.

A span is a stretch of tokens that its labels mark, each label a letter and a type:

              Florence  Jordan  left   New    York   on   5       May     .
    IOB2      B-PER     I-PER   O      B-LOC  I-LOC  O    B-DATE  I-DATE  O     B begins
    IOB1      I-PER     I-PER   O      I-LOC  I-LOC  O    I-DATE  I-DATE  O     B only after a span of the same type
    BIOES     B-PER     E-PER   O      B-LOC  E-LOC  O    B-DATE  E-DATE  O     E ends, S is a span of one (BILOU: L, U)

One rule reads them all, and says what to make of sequences that are against their scheme: a token goes on with the span
of its neighbour if it is I, E or L after B or I of the same type; every other token with a letter begins a span.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import DataError
from seqkit.metrics.label_counts import LabelScores, Scheme, Spans

__all__ = ["label_scores"]

LETTERS = frozenset("BIESLU")
MAY_BE_CONTINUED = frozenset("BI")
MAY_CONTINUE = frozenset("IEL")


def label_scores(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> LabelScores:
    """Compare the labels of each sentence with the right ones.

    Spans are counted as by conlleval (Tjong Kim Sang and De Meulder, 2003). Raises DataError for lists that do not
    match, and when there is no token.
    """
    _check(hypotheses, references)
    lengths = np.fromiter(map(len, references), dtype=np.int64, count=len(references))
    first = np.zeros(int(lengths.sum()) + 1, dtype=np.bool_)  # one more: where an empty last sentence would begin
    first[np.cumsum(lengths) - lengths] = True
    inventory = _LabelInventory.of(set(chain.from_iterable(chain(hypotheses, references))))
    predicted, right = inventory.encode(hypotheses), inventory.encode(references)
    found, expected = (_spans(labels, first[:-1], inventory) for labels in (predicted, right))
    return LabelScores(
        sentences=len(references),
        tokens=len(right),
        correct=int((predicted == right).sum()),
        scheme=_scheme(inventory, right[expected.begins]),
        types=_by_type(found, expected, inventory.types),
    )


class _LabelInventory(NamedTuple):
    """The labels that occur, taken apart, each with a number."""

    numbers: dict[str, int]
    letters: frozenset[str]
    types: list[str]  # sorted
    type: NDArray[np.int64]  # (labels,) an index of `types`; -1: marks no span
    may_be_continued: NDArray[np.bool_]  # (labels,)
    may_continue: NDArray[np.bool_]  # (labels,)

    @classmethod
    def of(cls, labels: set[str]) -> _LabelInventory:
        """Take each label apart."""
        parts = [_parts(label) for label in labels]
        types = sorted({kind for letter, kind in parts if letter})
        indices = {kind: index for index, kind in enumerate(types)}
        return cls(
            numbers={label: number for number, label in enumerate(labels)},
            letters=frozenset(letter for letter, _ in parts),
            types=types,
            type=np.array([indices[kind] if letter else -1 for letter, kind in parts], dtype=np.int64),
            may_be_continued=np.array([letter in MAY_BE_CONTINUED for letter, _ in parts], dtype=np.bool_),
            may_continue=np.array([letter in MAY_CONTINUE for letter, _ in parts], dtype=np.bool_),
        )

    def encode(self, sentences: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """The numbers of all labels, the sentences end to end: (tokens,)."""
        return np.fromiter(map(self.numbers.__getitem__, chain.from_iterable(sentences)), dtype=np.int64)


def _parts(label: str) -> tuple[str, str]:
    """`B-PER` -> `B`, `PER`; two empty texts for a label that marks no span."""
    letter, _, kind = label.partition("-")
    return (letter, kind) if letter in LETTERS and kind else ("", "")


class _TextSpans(NamedTuple):
    """The spans of a text, in order: each begins at a token, ends before another, and has a type."""

    begins: NDArray[np.int64]  # (spans,)
    ends: NDArray[np.int64]
    type: NDArray[np.int64]


def _spans(labels: NDArray[np.int64], first: NDArray[np.bool_], inventory: _LabelInventory) -> _TextSpans:
    """labels (tokens,); `first` (tokens,) is True where a sentence begins."""
    kinds = inventory.type[labels]
    continues = inventory.may_continue[labels] & ~first
    continues[1:] &= inventory.may_be_continued[labels[:-1]] & (kinds[1:] == kinds[:-1])
    begins = np.flatnonzero((kinds >= 0) & ~continues)
    bounds = np.append(np.flatnonzero(~continues), len(labels))
    return _TextSpans(begins, bounds[np.searchsorted(bounds, begins, side="right")], kinds[begins])


def _by_type(found: _TextSpans, expected: _TextSpans, types: list[str]) -> dict[str, Spans]:
    """The counts of each type: spans that begin together are correct if they end together and have one type."""
    _, in_found, in_expected = np.intersect1d(found.begins, expected.begins, assume_unique=True, return_indices=True)
    correct = found.ends[in_found] == expected.ends[in_expected]
    correct &= found.type[in_found] == expected.type[in_expected]
    counts = (
        np.bincount(kinds, minlength=len(types)).tolist()
        for kinds in (found.type[in_found][correct], found.type, expected.type)
    )
    return {kind: Spans(*numbers) for kind, *numbers in zip(types, *counts, strict=True)}


def _scheme(inventory: _LabelInventory, begins: NDArray[np.int64]) -> Scheme:
    """Named after the letters that occur and, for IOB1, after the labels with which the right spans begin."""
    if not inventory.types:
        return "plain"
    if inventory.letters & {"E", "S"}:
        return "BIOES"
    if inventory.letters & {"L", "U"}:
        return "BILOU"
    return "IOB1" if inventory.may_continue[begins].any() else "IOB2"


def _check(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} labelled sentences, but {len(references)} references", "the texts must be parallel"
        )
    for number, (labels, right) in enumerate(zip(hypotheses, references, strict=True), start=1):
        if isinstance(labels, str) or isinstance(right, str):
            raise DataError(f"sentence {number} is a text, not a list of labels", "split it at its spaces")
        if len(labels) != len(right):
            raise DataError(
                f"sentence {number} has {len(labels)} labels, its reference {len(right)}", "there is one for each token"
            )
    if not any(references):
        raise DataError("there are no tokens to score", "give at least one sentence and its reference")
