"""Terms that must occur in the output: constrained decoding by dynamic beam allocation (Post and Vilar, 2018).

A sentence has terms, a term has forms, and a form is a sequence of tokens. Any one form of each term is enough. A term
is *pending* when one of its forms has just been generated, *met* when the token after it cannot belong to the same
word (`Haus` is not met by `Hausboot`), and *missing* otherwise. While a term is missing the sentence cannot end, and no
token may follow that would leave too little room for it. Letters: B sentences, N rows, V vocabulary, A forms, L tokens
in the longest form, C terms of a sentence, M candidates of a sentence.
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

__all__ = ["Allocation", "Forms", "TermState", "Terms"]

# The forms of each term of a sentence, as tokens.
Forms = Sequence[Sequence[Sequence[int]]]


class TermState(NamedTuple):
    """The terms of each hypothesis's sentence, and how much of them the hypothesis has; a row a hypothesis."""

    forms: Tensor  # (N, A, L) tokens, -1 after the end
    lengths: Tensor  # (N, A) tokens of each form, 0 where there is none
    owners: Tensor  # (N, A, C) bool: which term a form belongs to
    met: Tensor  # (N, C) bool; terms that a sentence does not have are met
    recent: Tensor  # (N, L) the last tokens, -1 before the first
    room: Tensor  # (N,) tokens that may still be generated, `</s>` included


class Allocation(NamedTuple):
    """How candidates stand with regard to the terms, (B, M) each."""

    bank: Tensor  # the part of the beam that a candidate competes for
    complete: Tensor  # bool: no term is missing
    fits: Tensor  # bool: there is room for the missing terms


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of a batch of sentences."""

    sentences: Sequence[Forms]
    word_boundaries: Tensor  # (V,) bool: tokens that cannot continue the word before them; `</s>` is one

    def size(self, sentence: int) -> int:
        """How many tokens the longest forms of a sentence's terms have together."""
        return sum(max(len(form) for form in term) for term in self.sentences[sentence])

    def start(self, maxima: Tensor) -> TermState:
        """The state before the first token; `maxima` (B,): the most tokens of each sentence."""
        forms = max(sum(len(term) for term in terms) for terms in self.sentences)
        longest = max(len(form) for terms in self.sentences for term in terms for form in term)
        count = max(len(terms) for terms in self.sentences)
        tokens = torch.full((len(self.sentences), forms, longest), -1, dtype=torch.int32)
        owners = torch.zeros(len(self.sentences), forms, count, dtype=torch.bool)
        met = torch.ones(len(self.sentences), count, dtype=torch.bool)
        for sentence, terms in enumerate(self.sentences):
            index = 0
            for owner, term in enumerate(terms):
                met[sentence, owner] = False
                for form in term:
                    tokens[sentence, index, : len(form)] = torch.tensor(form, dtype=torch.int32)
                    owners[sentence, index, owner] = True
                    index += 1
        recent = torch.full((len(self.sentences), longest), -1, dtype=torch.int32)
        device = maxima.device
        tokens, owners, met, recent = (part.to(device) for part in (tokens, owners, met, recent))
        return TermState(tokens, (tokens >= 0).sum(2), owners, met, recent, maxima)

    def advance(self, chosen: Tensor, state: TermState) -> TermState:
        """The state after each row has read its token of `chosen` (N,)."""
        met = state.met | (_pending(state, _progress(state)) & self.word_boundaries[chosen][:, None])
        recent = torch.cat([state.recent[:, 1:], chosen[:, None].int()], dim=1)
        return state._replace(met=met, recent=recent, room=state.room - 1)

    def apply(self, values: Tensor, state: TermState) -> Tensor:
        """Log-probabilities (N, V), without `</s>` where a term is missing."""
        values = values.clone()
        values[:, EOS].masked_fill_(_missing(state, _progress(state)).any(1), -math.inf)
        return values

    def next_tokens(self, state: TermState) -> Tensor:
        """The next token of each form of a missing term, then `</s>`: (N, A + 1); 0 (padding) for all other forms."""
        progress = _progress(state)
        missing = (state.owners & _missing(state, progress)[:, None]).any(2)
        position = torch.where(progress < state.lengths, progress, 0)
        tokens = state.forms.gather(2, position[:, :, None])[:, :, 0].long().masked_fill(~missing, 0)
        return torch.cat([tokens, tokens.new_full((len(tokens), 1), EOS)], dim=1)

    def allocate(self, tokens: Tensor, rows: Tensor, state: TermState, *, width: int) -> Allocation:
        """The banks of the candidates that continue rows (B, M) with tokens (B, M), in a beam of `width` hypotheses.

        There is a bank for each number of generated tokens of terms, or for several numbers, if there are more of them
        than hypotheses.
        """
        after = self.advance(tokens.flatten(), select(state, rows.flatten()))
        progress = _progress(after)
        missing = _missing(after, progress)
        sizes = _of_terms(after, after.lengths, largest=True)
        partial = torch.minimum(_of_terms(after, progress, largest=True), (sizes - 1).clamp(min=0))
        generated = torch.where(missing, partial, sizes).sum(1)
        total = sizes.sum(1)
        bank = torch.where(total >= width, generated * (width - 1) // total.clamp(min=1), generated)
        remaining = after.lengths - torch.where(progress < after.lengths, progress, 0)  # (N, A)
        needed = (_of_terms(after, remaining, largest=False) * missing).sum(1) + 1  # and </s>
        fits = (needed <= after.room) | (tokens.flatten() == EOS)
        return Allocation(*(part.view_as(tokens) for part in (bank, ~missing.any(1), fits)))


def _progress(state: TermState) -> Tensor:
    """How many tokens of each form have just been generated: (N, A)."""
    longest = state.recent.shape[1]
    progress = torch.zeros_like(state.lengths)
    for count in range(1, longest + 1):
        equal = (state.forms[:, :, :count] == state.recent[:, None, longest - count :]).all(2)
        progress = torch.where(equal & (state.lengths >= count), count, progress)
    return progress


def _pending(state: TermState, progress: Tensor) -> Tensor:
    """Which terms have a form that has just been generated as a whole: (N, C)."""
    whole = (progress == state.lengths) & (state.lengths > 0)
    return (whole[:, :, None] & state.owners).any(1)


def _missing(state: TermState, progress: Tensor) -> Tensor:
    """Which terms are neither met nor pending: (N, C)."""
    return ~(state.met | _pending(state, progress))


def _of_terms(state: TermState, values: Tensor, *, largest: bool) -> Tensor:
    """The largest or smallest value (N, A) of each term's forms: (N, C); 0 for a term that is not there."""
    fill = 0 if largest else torch.iinfo(values.dtype).max
    spread = values[:, :, None].masked_fill(~state.owners, fill)
    extremes = spread.amax(1) if largest else spread.amin(1)
    return extremes.masked_fill(~state.owners.any(1), 0)
