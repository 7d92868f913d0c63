"""One step of a beam: its candidates are the best of all continuations, and are divided into endings and the rest."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkit.search.candidates import Beam, Candidates, CandidateSelector
from seqkit.search.hypothesis import BOS, EOS
from seqkit.search.rules import Temperature
from seqkit.settings import Search

FIRST = EOS + 1  # the lowest id that stands for text


quick = settings(max_examples=20, deadline=None)


@quick
@given(
    size=st.sampled_from([7, 40, 300, 2100]),
    sentences=st.integers(1, 3),
    width=st.integers(1, 4),
    ends=st.booleans(),
    seed=st.integers(0, 999),
)
def test_candidates_are_the_best_of_all_continuations(
    size: int, sentences: int, width: int, ends: bool, seed: int
) -> None:
    """Logits of unequal sums and totals of unequal rows: what is compared is the probability of whole sequences."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(sentences * width, size, generator=generator)
    logits += 20 * torch.randn(sentences * width, 1, generator=generator)
    totals = -2 * torch.rand(sentences, width, generator=generator)
    chooser = CandidateSelector(Search(beam=width), [], None)
    marks = chooser.start(sentences, torch.full((sentences,), 9))
    ids = torch.full((sentences * width, 1), BOS)
    found = chooser.candidates(logits, Beam(totals, totals), ids, marks, None, ends=ends)
    sums = logits.log_softmax(1).view(sentences, width, size) + totals[:, :, None]
    sums[:, :, : EOS if ends else FIRST] = -math.inf
    best = sums.flatten(1).topk(min(2 * width, width * size))
    torch.testing.assert_close(found.scores, best.values)
    possible = best.values > -math.inf
    rows = best.indices // size + torch.arange(sentences)[:, None] * width
    assert torch.equal(found.rows[possible], rows[possible])
    assert torch.equal(found.tokens[possible], (best.indices % size)[possible])


def candidates(scores: list[list[float]], tokens: list[list[int]]) -> Candidates:
    values = torch.tensor(scores)
    return Candidates(values, values, torch.zeros_like(values, dtype=torch.long), torch.tensor(tokens))


def test_endings_count_only_among_the_first_k_and_the_rest_goes_on() -> None:
    selector = CandidateSelector(Search(beam=2), [], None)
    found = candidates([[-1.0, -2.0, -3.0, -4.0]], [[EOS, 5, EOS, 6]])
    first, ends = selector.endings(found)
    assert first.tokens.tolist() == [[EOS, 5]]
    assert ends.tolist() == [[True, False]]
    going = selector.continuations(found)
    assert (going.tokens.tolist(), going.scores.tolist()) == ([[5, 6]], [[-2.0, -4.0]])


def test_where_too_little_goes_on_the_rest_of_the_beam_is_dead() -> None:
    found = candidates([[-1.0, -2.0, -3.0]], [[EOS, EOS, 5]])
    going = CandidateSelector(Search(beam=2), [], None).continuations(found)
    assert going.scores.tolist() == [[-3.0, -math.inf]]


def test_a_candidate_that_is_not_possible_ends_nothing() -> None:
    found = candidates([[-math.inf, -math.inf]], [[EOS, EOS]])
    _, ends = CandidateSelector(Search(beam=2), [], None).endings(found)
    assert not ends.any()


def test_candidates_are_taken_by_place_and_by_sentence() -> None:
    found = candidates([[-1.0, -2.0], [-3.0, -4.0]], [[5, 6], [7, 8]])
    assert found.gather(torch.tensor([[1], [0]])).tokens.tolist() == [[6], [7]]
    assert found.select(torch.tensor([1])).tokens.tolist() == [[7, 8]]
    over = found.mask_all_but(torch.tensor([1]))
    assert over.scores.tolist() == over.log_probs.tolist() == [[-math.inf] * 2, [-3.0, -4.0]]


def test_rules_change_scores_and_not_log_probabilities() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    beams, ids = Beam(torch.zeros(1, 2), torch.zeros(1, 2)), torch.full((2, 1), BOS)
    selector = CandidateSelector(Search(beam=2), [Temperature(2.0)], None)
    states = selector.start(1, torch.tensor([9]))
    found = selector.candidates(logits, beams, ids, states, None, ends=True)
    log_probs = logits.log_softmax(1)[found.rows[0], found.tokens[0]]
    torch.testing.assert_close(found.log_probs[0], log_probs)
    torch.testing.assert_close(found.scores[0], log_probs / 2)
