"""Counted models: the formulas of the papers, written out slowly here, and the laws of every `Decodable`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.errors import DataError, ModelError
from seqkit.models.ngram import NGramModel
from seqkit.settings import NGram
from seqkit.state import Decodable, map_state, select

BOS, EOS = 1, 2
SIZE = 7  # tokens of the small vocabularies

close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
Corpus = list[list[int]]
Gram = tuple[int, ...]

SETTINGS = [NGram(order=order) for order in (1, 2, 3, 5)] + [
    NGram(order=order, smoothing="additive", added=added) for order, added in ((1, 1.0), (2, 0.1), (4, 1.0))
]
every_kind = pytest.mark.parametrize("kind", SETTINGS, ids=[f"{kind.smoothing}-{kind.order}" for kind in SETTINGS])


def fitted(kind: NGram, corpus: Sequence[Sequence[int]], *, size: int = SIZE) -> NGramModel:
    """A model in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return NGramModel.fit(kind, [np.array(line, dtype=np.int32) for line in corpus], vocabulary=size)
    finally:
        torch.set_default_dtype(before)


class Slow:
    """The formulas of Chen and Goodman (1999), word by word."""

    def __init__(self, kind: NGram, corpus: Corpus, size: int) -> None:
        self.kind, self.size = kind, size
        texts = [(BOS, *line) for line in corpus]
        self.raw: dict[int, Counter[Gram]] = {
            order: Counter(
                text[end - order : end]
                for text in texts
                for end in range(max(order, 2), len(text) + 1)  # <s> itself is not predicted
            )
            for order in range(1, kind.order + 2)
        }

    def probability(self, context: Gram, word: int) -> float:
        if self.kind.smoothing == "additive":
            return self.additive(context, word)
        return self.kneser_ney(context, word)

    def additive(self, context: Gram, word: int) -> float:
        seen = self.raw[len(context) + 1]
        total = sum(count for gram, count in seen.items() if gram[:-1] == context)
        return (seen[(*context, word)] + self.kind.added) / (total + self.kind.added * (self.size - 2))

    def kneser_ney(self, context: Gram, word: int) -> float:
        lower = self.kneser_ney(context[1:], word) if context else 1 / (self.size - 2)
        counts = self.counts(len(context) + 1)
        discounts = self.discounts(list(counts.values()))
        followers = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
        if not followers:
            return lower
        count, total = followers.get(word, 0), sum(followers.values())
        left = sum(discounts[min(each, 3)] for each in followers.values())
        return (count - discounts[min(count, 3)] + left * lower) / total

    def counts(self, order: int) -> Counter[Gram]:
        if order == self.kind.order:
            return self.raw[order]
        different = Counter(gram[1:] for gram in self.raw[order + 1])
        return Counter({gram: count if gram[0] == BOS else different[gram] for gram, count in self.raw[order].items()})

    @staticmethod
    def discounts(counts: list[int]) -> list[float]:
        n = [0, *(counts.count(number) for number in (1, 2, 3, 4))]
        if all(n[1:]):
            once = n[1] / (n[1] + 2 * n[2])
            found = [number - (number + 1) * once * n[number + 1] / n[number] for number in (1, 2, 3)]
            if min(found) > 0:
                return [0, *found]
        return [0, 0.5, 1, 1.5]

    def distribution(self, read: Sequence[int]) -> list[float]:
        """What follows `read`, for each predictable id."""
        context = tuple(read)[max(len(read) - self.kind.order + 1, 0) :]
        return [self.probability(context, word) for word in range(EOS, self.size)]


def check(kind: NGram, corpus: Corpus, read: Sequence[int], size: int = SIZE) -> None:
    """Whatever is read, the model says what the formulas say."""
    out = fitted(kind, corpus, size=size).advance(torch.tensor([read]), None, None).logits[0]
    slow = Slow(kind, corpus, size)
    assert bool((out[:, :EOS] == -torch.inf).all())
    expected = [slow.distribution(read[: end + 1]) for end in range(len(read))]
    close(out[:, EOS:].exp(), torch.tensor(expected, dtype=torch.float64))


kinds = st.builds(
    NGram,
    order=st.integers(1, 5),
    smoothing=st.sampled_from(["kneser_ney", "additive"]),
    added=st.sampled_from([0.01, 1.0, 3.0]),
)
lines = st.lists(st.integers(EOS, SIZE - 1), min_size=1, max_size=12)


@settings(max_examples=80)
@given(kinds, st.lists(lines, min_size=1, max_size=6), lines)
def test_probabilities_are_those_of_the_formulas(kind: NGram, corpus: Corpus, read: list[int]) -> None:
    check(kind, corpus, [BOS, *read])


@settings(max_examples=25)
@given(kinds, st.lists(lines, min_size=1, max_size=4), lines)
def test_a_text_may_be_read_from_its_middle(kind: NGram, corpus: Corpus, read: list[int]) -> None:
    check(kind, corpus, read)


def phrases(count: int, size: int, seed: int = 4) -> list[int]:
    """A stream of phrases of four tokens, as unequal as words are."""
    random = np.random.default_rng(seed)
    known = random.integers(EOS, size, (60, 4))
    return [int(token) for index in np.minimum(random.zipf(1.5, count), 60) - 1 for token in known[index]]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("cuts", [1, 40])
def test_discounts_come_from_counts_of_counts(order: int, cuts: int) -> None:
    text, size = phrases(180, 60), 60
    corpus = [part.tolist() for part in np.array_split(np.array(text), cuts)]
    slow = Slow(NGram(order=order), corpus, size)
    for length in range(1, order + 1):  # or this would try nothing new
        assert slow.discounts(list(slow.counts(length).values())) != [0, 0.5, 1, 1.5]
    check(NGram(order=order), corpus, [BOS, *text[:5], 9, 4, *text[20:23]], size)


@every_kind
def test_probabilities_sum_to_one_and_nothing_is_impossible(kind: NGram) -> None:
    model = fitted(kind, [phrases(120, 30), [5]], size=40)
    logits = model.advance(torch.tensor([[BOS, *phrases(12, 40)]]), None, None).logits
    close(logits.exp().sum(2), torch.ones(1, 49, dtype=torch.float64))
    assert bool(logits[:, :, EOS:].isfinite().all())


@every_kind
def test_single_precision_is_near_enough(kind: NGram) -> None:
    model = NGramModel.fit(kind, [np.array(phrases(1000, 1000), dtype=np.int32)], vocabulary=1000)
    logits = model.advance(torch.tensor([[BOS, *phrases(12, 1000)]]), None, None).logits
    assert logits.dtype == torch.float32
    assert float((logits.double().exp().sum(2) - 1).abs().max()) < 1e-5


DEGENERATE: dict[str, Corpus] = {
    "one token": [[5]],
    "only an end": [[EOS]],
    "the same token": [[4] * 50],
    "the same line": [[4, 5, EOS]] * 20,
    "every pair once": [[a, b] for a in range(EOS, SIZE) for b in range(EOS, SIZE)],
    # Counts of counts of 1-grams are 1, 1, 9, 1: the second discount would be 2 - 3 * 1/3 * 9 / 1.
    "a negative discount": [[2, 3, 3, *[token for token in range(4, 13) for _ in range(3)], 13, 13, 13, 13]],
}


@every_kind
@pytest.mark.parametrize("corpus", DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_corpora_give_distributions_too(kind: NGram, corpus: Corpus) -> None:
    for read in ([BOS], [BOS, 4, 4, 5, EOS, 6, 5]):
        check(kind, corpus, read, size=15)


def tokens(rows: int, length: int, *, size: int = SIZE) -> Tensor:
    ids = torch.randint(EOS, size, (rows, length), generator=torch.Generator().manual_seed(3))
    ids[:, 0] = BOS
    return ids


def small(kind: NGram) -> NGramModel:
    return fitted(kind, [phrases(20, SIZE), phrases(2, SIZE, seed=1), [EOS]])


def read_in_pieces(model: Decodable, ids: Tensor, *cuts: int) -> Tensor:
    _, state = model.start(None)
    pieces = []
    for piece in ids.tensor_split(cuts, dim=1):
        logits, state = model.advance(piece, None, state)
        state = map_state(Tensor.clone, state)
        pieces.append(logits)
    return torch.cat(pieces, dim=1)


@every_kind
def test_cutting_a_sequence_anywhere_changes_nothing(kind: NGram) -> None:
    model, ids = small(kind), tokens(3, 8)
    whole = read_in_pieces(model, ids)
    for cut in range(1, 8):
        assert torch.equal(read_in_pieces(model, ids, cut), whole)
    assert torch.equal(read_in_pieces(model, ids, *range(1, 8)), whole)


@every_kind
def test_rows_keep_to_themselves(kind: NGram) -> None:
    model, ids, rows = small(kind), tokens(4, 6), torch.tensor([2, 0, 0, 3, 1])
    logits, state = model.advance(ids[:, :4], None, None)
    assert torch.equal(model.advance(ids[rows, :4], None, None).logits, logits[rows])
    after = model.advance(ids[:, 4:], None, state).logits
    assert torch.equal(model.advance(ids[rows, 4:], None, select(state, rows)).logits, after[rows])


@every_kind
def test_neither_padding_nor_later_tokens_change_what_is_before_them(kind: NGram) -> None:
    model, ids = small(kind), tokens(3, 6)
    whole = read_in_pieces(model, ids)
    for wrong in (0, BOS, EOS, 5):
        padded = torch.cat([ids, torch.full((3, 2), wrong)], dim=1)
        assert torch.equal(read_in_pieces(model, padded)[:, :6], whole)
        other = ids.clone()
        other[:, 4] = wrong
        assert torch.equal(read_in_pieces(model, other)[:, :4], whole[:, :4])


@every_kind
def test_looking_up_targets_gives_what_the_rows_hold(kind: NGram) -> None:
    model = small(kind)
    inputs, targets = tokens(4, 9), tokens(9, 4).T  # no matter how the ids lie in memory; the targets hold a <s>
    whole = model.advance(inputs, None, None)
    found, state = model.log_probs(inputs, targets, None, None)
    assert torch.equal(found, whole.logits.gather(2, targets[:, :, None])[:, :, 0])
    assert torch.equal(state, whole.state)
    first, middle = model.log_probs(inputs[:, :2], targets[:, :2], None, None)
    second, _ = model.log_probs(inputs[:, 2:], targets[:, 2:], None, middle)
    assert torch.equal(torch.cat([first, second], dim=1), found)


def test_a_stream_goes_on_across_line_ends_and_lines_do_not() -> None:
    model = fitted(NGram(order=3), [[4, EOS, 5, EOS, 4, EOS, 5, EOS]])
    after_line = model.advance(torch.tensor([[4, EOS]]), None, None).logits[0, -1]
    assert int(after_line.argmax()) == 5
    apart = fitted(NGram(order=3), [[4, EOS], [5, EOS], [4, EOS], [5, EOS]])
    assert apart.facts == {"1-grams": SIZE - 2, "2-grams": 4, "3-grams": 2}
    close(
        apart.advance(torch.tensor([[BOS, 4, EOS]]), None, None).logits[0, -1],
        apart.advance(torch.tensor([[0]]), None, None).logits[0, -1],
    )


@every_kind
def test_tensors_are_all_that_there_is_to_a_model(kind: NGram) -> None:
    model, ids = small(kind), tokens(2, 6)
    again = NGramModel.from_tensors(kind, model.tensors(), vocabulary=SIZE)
    assert torch.equal(read_in_pieces(again, ids), read_in_pieces(model, ids))
    assert again.facts == model.facts
    assert model.tensors().keys() == model.state_dict().keys()
    assert not list(model.parameters())


def test_tensors_of_another_model_are_refused() -> None:
    model = small(NGram(order=3))
    given = model.tensors()
    cut = {name: tensor[:-1] for name, tensor in given.items()}
    for kind, tensors, size in (
        (NGram(order=3), given, SIZE + 1),
        (NGram(order=1), given, SIZE),
        (NGram(order=3), {**given, "keys": cut["keys"]}, SIZE),
        (NGram(order=3), {**given, "backoffs": cut["backoffs"]}, SIZE),
        (NGram(order=3), {**given, "keys": given["keys"].double()}, SIZE),
        (NGram(order=3), {"keys": given["keys"]}, SIZE),
        (NGram(order=3), {}, SIZE),
        (NGram(order=3), small(NGram(order=1)).tensors(), SIZE),
    ):
        with pytest.raises(ModelError, match="these tensors") as caught:
            NGramModel.from_tensors(kind, tensors, vocabulary=size)
        assert caught.value.hint


@pytest.mark.parametrize("corpus", [[], [[]], [[4], [], [5]], [[4, 0]], [[BOS, 4]], [[4, SIZE]], [[-1]]])
def test_what_cannot_be_counted_is_refused(corpus: Corpus) -> None:
    with pytest.raises(DataError) as caught:
        fitted(NGram(order=2), corpus)
    assert caught.value.hint


def test_a_source_is_refused() -> None:
    from seqkit.batch import pad

    with pytest.raises(ModelError, match="no source"):
        small(NGram()).start(pad([[3, 2]]))


def test_more_context_is_better_on_a_text_that_has_structure() -> None:
    pattern = [3, 4, 5, 3, 5, 4, 6, 3, 4, 6]
    text = torch.tensor([[BOS, *pattern * 3]])
    found = []
    for order in (1, 2, 3, 4):
        log_probs, _ = fitted(NGram(order=order), [pattern * 20]).log_probs(text[:, :-1], text[:, 1:], None, None)
        found.append(float(log_probs.mean()))
    assert all(one < other for one, other in pairwise(found))
    assert found[-1] > math.log(0.8)
