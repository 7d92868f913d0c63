"""One step of beam search: which continuations of all hypotheses are kept, and which of these end.

Letters: B sentences still open, W hypotheses of each, N = B * W rows, V vocabulary, C candidates a sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seqkit.errors import ModelError
from seqkit.search.hypothesis import BOS, EOS, PAD
from seqkit.search.logits import largest, log_normalisers, promising
from seqkit.search.rules import Rule
from seqkit.search.terms import Terms, TermState
from seqkit.settings import Search
from seqkit.state import State

__all__ = ["Beam", "CandidateSelector", "Candidates", "RuleStates"]

EACH = 4  # continuations that every row is allowed where shares, not totals alone, decide


class Beam(NamedTuple):
    """What the hypotheses alive have reached; -inf: a dead row."""

    total: Tensor  # (B, W) float32, log-probabilities as the rules have them
    own: Tensor  # (B, W) as the model has them

    @property
    def width(self) -> int:
        """W, the hypotheses of a sentence."""
        return self.total.shape[1]


class Candidates(NamedTuple):
    """Continuations of each sentence, best first; a total of -inf: not possible."""

    total: Tensor  # (B, C) of the whole sequence
    own: Tensor  # (B, C)
    rows: Tensor  # (B, C) which of the N rows is continued
    tokens: Tensor  # (B, C) with what
    share: Tensor | None = None  # (B, C) which share of the beam it competes for; None: there are none
    complete: Tensor | None = None  # (B, C) bool: all terms are there

    def picked(self, order: Tensor) -> Candidates:
        """The candidates in `order` (B, c)."""
        return self._mapped(lambda part: part.gather(1, order))

    def of(self, rows: Tensor) -> Candidates:
        """Those of some sentences."""
        return self._mapped(lambda part: part[rows])

    def alive_in(self, rows: Tensor) -> Candidates:
        """All of them, but dead in all sentences except some."""
        over = torch.ones(len(self.total), 1, dtype=torch.bool, device=rows.device).index_fill_(0, rows, False)
        total = self.total.masked_fill(over, -math.inf)
        return self._replace(total=total, own=total if self.own is self.total else self.own)

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Candidates:
        total, rows, tokens = function(self.total), function(self.rows), function(self.tokens)
        own = total if self.own is self.total else function(self.own)
        share, complete = (None if part is None else function(part) for part in self[4:])
        return Candidates(total, own, rows, tokens, share, complete)


class RuleStates(NamedTuple):
    """What the rules remember: one state, with a row a hypothesis."""

    rules: tuple[State, ...]
    terms: TermState | None


@dataclass(frozen=True)
class CandidateSelector:
    """How candidates are made and shared out: `endings` come first, then `continuations` of the same candidates."""

    settings: Search
    rules: Sequence[Rule]
    terms: Terms | None

    @property
    def width(self) -> int:
        """The beam of a sentence, or of a group of it in diverse search."""
        return self.settings.beam // self.settings.groups

    def start(self, sentences: int, maxima: Tensor) -> RuleStates:
        """The marks before anything is chosen; `maxima` (B,): the most tokens generated for each sentence."""
        begun = None if self.terms is None else self.terms.start(maxima)
        return RuleStates(tuple(rule.start(sentences) for rule in self.rules), begun)

    def advance(self, chosen: Tensor, marks: RuleStates) -> RuleStates:
        """The marks after each row has gone on with its token of `chosen` (N,)."""
        moved = tuple(rule.advance(chosen, mark) for rule, mark in zip(self.rules, marks.rules, strict=True))
        terms = None if self.terms is None or marks.terms is None else self.terms.advance(chosen, marks.terms)
        return RuleStates(moved, terms)

    def candidates(
        self, logits: Tensor, beam: Beam, ids: Tensor, marks: RuleStates, searches: Tensor | None, *, ends: bool
    ) -> Candidates:
        """The min(2K, W * V) best of all continuations: so many that K endings cannot starve those that go on.

        logits (N, V); `ids` (N, t) is what has been read, `searches` (B,), with groups, which search each row of
        the beam belongs to.
        """
        count = 2 * self.width
        norms = log_normalisers(logits)
        if not self.rules and self.terms is None and self.settings.groups == 1:
            # Without rules only the best need be normalised.
            places = promising(logits, beam.total - norms.view_as(beam.total), count, first=EOS + 1)
            return _pooled(_Looked(logits, logits, logits, norms), places, beam, count=count, ends=ends)
        own = logits - norms[:, None]
        values = own
        for rule, mark in zip(self.rules, marks.rules, strict=True):
            values = rule.apply(values, ids, mark)
        if self.terms is not None and marks.terms is not None:
            values = self.terms.apply(values, marks.terms)
            values[:, : BOS + 1] = -math.inf  # so that none of the few places is theirs
            each = largest(values, min(EACH, logits.shape[1]))[1]
            tokens = torch.cat([each, self.terms.wanted(marks.terms)], dim=1)
            tokens = tokens.masked_fill(_seen_before(tokens), PAD).view(len(beam.total), beam.width, -1)
            rows = torch.arange(beam.width, device=tokens.device)[:, None]
            places = (tokens + rows * values.shape[1]).flatten(1)
            # All of them: what has a share of its own may stand far behind the best.
            pool = _pooled(_Looked(values, values, own), places, beam, count=places.shape[1], ends=ends)
            judged = self.terms.judged(pool.tokens, pool.rows, marks.terms, width=self.width)
            lost = ~judged.fits & (judged.fits & (pool.total > -math.inf)).any(1, keepdim=True)
            total = pool.total.masked_fill(lost, -math.inf)
            return pool._replace(total=total, share=judged.share, complete=judged.complete)
        if searches is not None:
            return self._diverse(values, own, beam, searches, ends=ends)
        places = promising(values, beam.total, count, first=EOS + 1)
        return _pooled(_Looked(values, values, own), places, beam, count=count, ends=ends)

    def _diverse(self, values: Tensor, own: Tensor, beam: Beam, searches: Tensor, *, ends: bool) -> Candidates:
        """One group after the other, each led away from what the groups before it have chosen at this step.

        The penalty decides who is chosen now and is then forgotten: totals are free of it.
        """
        groups, width = self.settings.groups, beam.width
        sentences = searches // groups
        taken = values.new_zeros(int(sentences.max()) + 1, values.shape[1])  # how often each token was chosen
        parts: list[Candidates] = []
        order: list[Tensor] = []
        for group in range(groups):
            at = (searches % groups == group).nonzero()[:, 0]
            if not len(at):  # this group of every sentence is over
                continue
            rows = (at[:, None] * width + torch.arange(width, device=at.device)).flatten()
            penalty = self.settings.diversity * taken[sentences[at]].repeat_interleave(width, dim=0)
            looked = _Looked(values[rows] - penalty, values[rows], own[rows])
            of_group = Beam(beam.total[at], beam.own[at])
            places = promising(looked.ranks, of_group.total, 2 * self.width, first=EOS + 1)
            part = _pooled(looked, places, of_group, count=2 * self.width, ends=ends)
            chosen = part.tokens[:, : self.width]  # endings are avoided as well
            where = sentences[at][:, None].expand_as(chosen)
            taken.index_put_((where, chosen), torch.ones_like(chosen, dtype=taken.dtype), accumulate=True)
            parts.append(part._replace(rows=rows[part.rows]))
            order.append(at)
        back = torch.cat(order).argsort()
        return Candidates(*(torch.cat(column)[back] for column in zip(*(part[:4] for part in parts), strict=True)))

    def endings(self, candidates: Candidates) -> tuple[Candidates, Tensor]:
        """The candidates that count, (B, K) or fewer, and which of them end a sentence.

        A later ending than the K-th candidate would not have stayed in the beam, whatever its token; with terms only
        those that have them all are counted.
        """
        if candidates.complete is None:
            first = Candidates(*(part[:, : self.width] for part in candidates[:4]))
        else:
            counted = candidates.complete & (candidates.total > -math.inf)
            order = counted.byte().argsort(dim=1, descending=True, stable=True)
            first = candidates.picked(order[:, : self.width])
        return first, (first.tokens == EOS) & (first.total > -math.inf)

    def continuations(self, candidates: Candidates) -> Candidates:
        """The K best candidates that are no endings, best first, (B, W); with shares, first the best of each.

        Where there are fewer, endings fill the place as dead rows.
        """
        ended = candidates.tokens == EOS
        total = candidates.total.masked_fill(ended, -math.inf)
        going = candidates._replace(total=total, own=total if candidates.own is candidates.total else candidates.own)
        if candidates.share is None:
            return going.picked(total.topk(min(self.width, total.shape[1])).indices)
        lost = total == -math.inf
        ranks = _ranks(candidates.share.masked_fill(lost, -1)).masked_fill(lost, total.shape[1])
        return going.picked(ranks.argsort(dim=1, stable=True)[:, : self.width])


class _Looked(NamedTuple):
    """What a step says of every token after every row, (N, V) each; one tensor where nothing makes a difference."""

    ranks: Tensor  # by which candidates are chosen
    values: Tensor  # by which they are compared afterwards
    own: Tensor  # the model's log-probabilities
    norms: Tensor | None = None  # (N,) what is still to be subtracted from all of them


def _pooled(looked: _Looked, places: Tensor, beam: Beam, *, count: int, ends: bool) -> Candidates:
    """A sentence's best `count` of the places (B, P) offered, each a row of W times V + a token, none twice."""
    (sentences, width), size = beam.total.shape, looked.ranks.shape[1]
    rows = places // size
    tokens = places.sub(rows, alpha=size)
    before = beam.total.gather(1, rows)
    forbidden = tokens <= (BOS if ends else EOS)  # the special ids come first: padding, <s>, </s>
    forbidden |= before == -math.inf  # also where a dead row's logits are NaN

    def summed(part: Tensor, before: Tensor) -> Tensor:
        found = part.reshape(sentences, -1).gather(1, places)
        if looked.norms is not None:
            found -= looked.norms.view(sentences, -1).gather(1, rows)
        return found.add_(before).masked_fill_(forbidden, -math.inf)

    best, index = summed(looked.ranks, before).topk(min(count, places.shape[1]))
    if bool(best.isnan().any()):
        raise ModelError("the model's predictions are not numbers", "its weights are damaged, or overflow: try float32")
    total = best if looked.values is looked.ranks else summed(looked.values, before).gather(1, index)
    alone = total
    if looked.own is not looked.values or beam.own is not beam.total:
        alone = summed(looked.own, beam.own.gather(1, rows)).gather(1, index)
    first_rows = torch.arange(0, sentences * width, width, device=index.device)[:, None]
    return Candidates(total, alone, rows.gather(1, index) + first_rows, tokens.gather(1, index))


def _seen_before(tokens: Tensor) -> Tensor:
    """Which of each row's tokens (N, c) stand in it further left."""
    equal = tokens[:, :, None] == tokens[:, None, :]
    return equal.tril(diagonal=-1).any(2)


def _ranks(shares: Tensor) -> Tensor:
    """How many of a row's candidates (B, C) further left compete for the same share."""
    equal = shares[:, :, None] == shares[:, None, :]
    return equal.tril(diagonal=-1).sum(2)
