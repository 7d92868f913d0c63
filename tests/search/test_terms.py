"""What a hypothesis has of its terms, token by token. (That search finds the best with all of them: tests/laws.)"""

from __future__ import annotations

import math

import torch

from seqkit.search.hypothesis import EOS
from seqkit.search.terms import Terms, TermState

HOUSE, BOAT, HOUND, BLACK, DOG = 3, 4, 5, 6, 7
SIZE = 8
BOUNDARIES = torch.tensor([id != BOAT for id in range(SIZE)])  # BOAT goes on with the word before it
# One sentence has two terms, the first of them with two forms; the other has none.
TERMS = Terms([[[[HOUSE], [HOUND]], [[BLACK, DOG]]], []], BOUNDARIES)
ROOM = torch.tensor([9, 9])


def after(*tokens: int) -> TermState:
    """The state of both sentences when each has read these tokens."""
    state = TERMS.start(ROOM)
    for token in tokens:
        state = TERMS.advance(torch.tensor([token, token]), state)
    return state


def may_end(state: TermState) -> list[bool]:
    return (TERMS.apply(torch.zeros(2, SIZE), state)[:, EOS] > -math.inf).tolist()


def wanted(state: TermState) -> set[int]:
    """The tokens of terms that the first sentence may go on with."""
    return set(TERMS.next_tokens(state)[0].tolist()) - {0, EOS}


def test_a_sentence_ends_when_a_form_of_each_term_is_there() -> None:
    assert may_end(after()) == [False, True]
    assert may_end(after(HOUND)) == [False, True]
    assert may_end(after(HOUND, BLACK)) == [False, True]
    assert may_end(after(HOUND, BLACK, DOG)) == [True, True]
    assert may_end(after(BLACK, DOG, HOUSE)) == [True, True]


def test_a_form_that_a_token_of_the_same_word_follows_is_another_word() -> None:
    assert may_end(after(BLACK, DOG, HOUSE, BOAT)) == [False, True]
    assert may_end(after(HOUSE, BLACK, DOG)) == [True, True]
    assert wanted(after(BLACK, DOG, HOUSE, BOAT)) == {HOUSE, HOUND}


def test_the_next_tokens_are_those_of_missing_terms_and_go_on_with_what_was_begun() -> None:
    assert wanted(after()) == {HOUSE, HOUND, BLACK}
    assert wanted(after(HOUSE)) == {BLACK}
    assert wanted(after(BLACK)) == {HOUSE, HOUND, DOG}
    assert wanted(after(BLACK, HOUSE)) == {BLACK}  # a form that was broken off begins anew
    assert wanted(after(HOUND, BLACK, DOG)) == set()


def test_a_form_may_begin_within_itself() -> None:
    terms = Terms([[[[BLACK, BLACK, DOG]]]], BOUNDARIES)
    state = terms.start(torch.tensor([9]))
    for token in (BLACK, BLACK, BLACK):
        state = terms.advance(torch.tensor([token]), state)
    assert set(terms.next_tokens(state)[0].tolist()) - {0, EOS} == {DOG}


def test_candidates_that_leave_too_little_room_do_not_fit() -> None:
    """Three tokens of terms and an end are missing: with five tokens left one may be spent on something else."""
    for room, fits in ((5, True), (4, False)):
        state = TERMS.start(torch.tensor([room, 9]))
        allocation = TERMS.allocate(torch.tensor([[BOAT], [BOAT]]), torch.tensor([[0], [1]]), state, width=4)
        assert allocation.fits.tolist() == [[fits], [True]]
        closer = TERMS.allocate(torch.tensor([[HOUSE], [BOAT]]), torch.tensor([[0], [1]]), state, width=4)
        assert closer.fits.tolist() == [[True], [True]]


def test_candidates_compete_with_those_that_have_as_much_of_the_terms() -> None:
    state, rows = after(HOUSE), torch.tensor([[0, 0, 0], [1, 1, 1]])
    allocation = TERMS.allocate(torch.tensor([[BLACK, HOUND, EOS]] * 2), rows, state, width=10)
    assert allocation.bank.tolist() == [[2, 1, 1], [0, 0, 0]]
    assert allocation.complete.tolist() == [[False] * 3, [True] * 3]
    done = TERMS.allocate(torch.tensor([[DOG], [DOG]]), rows[:, :1], after(HOUSE, BLACK), width=10)
    assert (done.bank.tolist(), done.complete.tolist()) == ([[3], [0]], [[True], [True]])


def test_the_size_of_a_sentence_s_terms_is_that_of_their_longest_forms() -> None:
    assert [TERMS.size(0), TERMS.size(1)] == [3, 0]
