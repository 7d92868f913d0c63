"""Terms that must occur: what a beam has to know of them (dynamic beam allocation, Post and Vilar, 2018).

A sentence has terms, a term has forms, and a form is a row of tokens. Any one form of each term is enough. A term is
*pending* when one of its forms has just been written, and *met* when what comes next cannot belong to the same word:
`Haus` is not met by `Hausboot`. While a term is owed the sentence cannot end, and nothing may be written that would
leave too little room for what is owed. Letters: N rows, A forms, L tokens in the longest form, C terms of a
sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seqkit.search.hypothesis import EOS
from seqkit.state import select

__all__ = ["Forms", "Judgement", "TermState", "Terms"]

# The forms of each term of a sentence, as tokens.
Forms = Sequence[Sequence[Sequence[int]]]


class TermState(NamedTuple):
    """A sentence's terms, and what a hypothesis has of them; a row a hypothesis."""

    forms: Tensor  # (N, A, L) tokens, -1 after the end
    lengths: Tensor  # (N, A) tokens of each form, 0 where there is none
    owners: Tensor  # (N, A, C) bool: which term a form belongs to
    met: Tensor  # (N, C) bool; terms that a sentence does not have are met
    recent: Tensor  # (N, L) the last tokens, -1 before the first
    room: Tensor  # (N,) tokens that may still be written, `</s>` included


class Judgement(NamedTuple):
    """What candidates are worth, (B, C) each."""

    share: Tensor  # which share of the beam each competes for
    complete: Tensor  # bool: all terms are there
    fits: Tensor  # bool: there is room for what is still owed


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of a batch of sentences."""

    sentences: Sequence[Forms]
    bounds: Tensor  # (V,) bool: tokens that cannot go on with the word before them; `</s>` is one

    def size(self, sentence: int) -> int:
        """How many tokens the longest forms of a sentence's terms have."""
        return sum(max(len(form) for form in term) for term in self.sentences[sentence])

    def start(self, maxima: Tensor) -> TermState:
        """The state before anything is written; `maxima` (B,): the most tokens of each sentence."""
        forms = max(sum(len(term) for term in terms) for terms in self.sentences)
        longest = max(len(form) for terms in self.sentences for term in terms for form in term)
        count = max(len(terms) for terms in self.sentences)
        tokens = torch.full((len(self.sentences), forms, longest), -1, dtype=torch.int32)
        owners = torch.zeros(len(self.sentences), forms, count, dtype=torch.bool)
        met = torch.ones(len(self.sentences), count, dtype=torch.bool)
        for sentence, terms in enumerate(self.sentences):
            number = 0
            for owner, term in enumerate(terms):
                met[sentence, owner] = False
                for form in term:
                    tokens[sentence, number, : len(form)] = torch.tensor(form, dtype=torch.int32)
                    owners[sentence, number, owner] = True
                    number += 1
        recent = torch.full((len(self.sentences), longest), -1, dtype=torch.int32)
        device = maxima.device
        tokens, owners, met, recent = (part.to(device) for part in (tokens, owners, met, recent))
        return TermState(tokens, (tokens >= 0).sum(2), owners, met, recent, maxima)

    def advance(self, chosen: Tensor, state: TermState) -> TermState:
        """The state after each row has gone on with its token of `chosen` (N,)."""
        met = state.met | (_pending(state, _progress(state)) & self.bounds[chosen][:, None])
        recent = torch.cat([state.recent[:, 1:], chosen[:, None].int()], dim=1)
        return state._replace(met=met, recent=recent, room=state.room - 1)

    def apply(self, values: Tensor, state: TermState) -> Tensor:
        """Log-probabilities (N, V), without `</s>` where a term is owed."""
        values = values.clone()
        values[:, EOS].masked_fill_(_owed(state, _progress(state)).any(1), -math.inf)
        return values

    def wanted(self, state: TermState) -> Tensor:
        """What each owed form goes on with, and `</s>`: (N, A + 1); 0 (padding) for forms that are not owed."""
        progress = _progress(state)
        owed = (state.owners & _owed(state, progress)[:, None]).any(2)
        place = torch.where(progress < state.lengths, progress, 0)
        tokens = state.forms.gather(2, place[:, :, None])[:, :, 0].long().masked_fill(~owed, 0)
        return torch.cat([tokens, tokens.new_full((len(tokens), 1), EOS)], dim=1)

    def judged(self, tokens: Tensor, rows: Tensor, state: TermState, *, width: int) -> Judgement:
        """What becomes of the terms if tokens (B, C) go on with rows (B, C), for a beam of so many hypotheses.

        There is a share of the beam for each token of the terms that is there, or for several, if there are more of
        them than hypotheses.
        """
        after = self.advance(tokens.flatten(), select(state, rows.flatten()))
        progress = _progress(after)
        owed = _owed(after, progress)
        sizes = _of_terms(after, after.lengths, largest=True)
        partly = torch.minimum(_of_terms(after, progress, largest=True), (sizes - 1).clamp(min=0))
        written = torch.where(owed, partly, sizes).sum(1)
        most = sizes.sum(1)
        share = torch.where(most >= width, written * (width - 1) // most.clamp(min=1), written)
        left = after.lengths - torch.where(progress < after.lengths, progress, 0)  # (N, A)
        needed = (_of_terms(after, left, largest=False) * owed).sum(1) + 1  # and </s>
        fits = (needed <= after.room) | (tokens.flatten() == EOS)
        return Judgement(*(part.view_as(tokens) for part in (share, ~owed.any(1), fits)))


def _progress(state: TermState) -> Tensor:
    """How many tokens of each form have just been written: (N, A)."""
    longest = state.recent.shape[1]
    progress = torch.zeros_like(state.lengths)
    for count in range(1, longest + 1):
        equal = (state.forms[:, :, :count] == state.recent[:, None, longest - count :]).all(2)
        progress = torch.where(equal & (state.lengths >= count), count, progress)
    return progress


def _pending(state: TermState, progress: Tensor) -> Tensor:
    """Which terms are whole, if no word goes on: (N, C)."""
    whole = (progress == state.lengths) & (state.lengths > 0)
    return (whole[:, :, None] & state.owners).any(1)


def _owed(state: TermState, progress: Tensor) -> Tensor:
    """Which terms are not there yet: (N, C)."""
    return ~(state.met | _pending(state, progress))


def _of_terms(state: TermState, values: Tensor, *, largest: bool) -> Tensor:
    """The largest or smallest value (N, A) of each term's forms: (N, C); 0 for a term that is not there."""
    fill = 0 if largest else torch.iinfo(values.dtype).max
    spread = values[:, :, None].masked_fill(~state.owners, fill)
    found = spread.amax(1) if largest else spread.amin(1)
    return found.masked_fill(~state.owners.any(1), 0)
