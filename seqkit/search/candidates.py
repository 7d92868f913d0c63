"""One step of beam search: which continuations of all hypotheses are kept, and which of these end.

Letters: B sentences still open, W hypotheses of each, N = B * W rows, V vocabulary, C candidates a sentence, K the
width of the beam.
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
from seqkit.search.logits import grouped_topk, log_normalisers, topk_superset
from seqkit.search.rules import Rule
from seqkit.search.terms import Terms, TermState
from seqkit.settings import Search
from seqkit.state import State

__all__ = ["Beam", "CandidateSelector", "Candidates", "RuleStates"]

TOKENS_PER_ROW = 4  # likeliest tokens of every row that are candidates where terms must occur


class Beam(NamedTuple):
    """The sums of log-probabilities of the hypotheses still open; -inf marks a dead row."""

    scores: Tensor  # (B, W) float32, with the changes of the rules
    log_probs: Tensor  # (B, W) by the model alone

    @property
    def width(self) -> int:
        """W, the hypotheses of a sentence."""
        return self.scores.shape[1]


class Candidates(NamedTuple):
    """Continuations of each sentence's hypotheses, best first; a score of -inf marks one that is not possible."""

    scores: Tensor  # (B, C) of the whole sequence, as in `Beam`
    log_probs: Tensor  # (B, C) of the whole sequence, as in `Beam`
    rows: Tensor  # (B, C) which of the N rows is continued
    tokens: Tensor  # (B, C) with which token
    bank: Tensor | None = None  # (B, C) with terms: the part of the beam that it competes for
    complete: Tensor | None = None  # (B, C) bool, with terms: none is missing

    def gather(self, indices: Tensor) -> Candidates:
        """The candidates at `indices` (B, c), in that order."""
        return self._map(lambda part: part.gather(1, indices))

    def select(self, sentences: Tensor) -> Candidates:
        """The candidates of the sentences at `sentences` (b,)."""
        return self._map(lambda part: part[sentences])

    def mask_all_but(self, sentences: Tensor) -> Candidates:
        """All candidates, with a score of -inf where they do not belong to `sentences` (b,)."""
        over = torch.ones(len(self.scores), 1, dtype=torch.bool, device=sentences.device)
        over = over.index_fill_(0, sentences, False)
        return self.with_scores(self.scores.masked_fill(over, -math.inf))

    def with_scores(self, scores: Tensor) -> Candidates:
        """The same candidates with other scores (B, C); log-probabilities that are the same tensor are replaced too."""
        return self._replace(scores=scores, log_probs=scores if self.log_probs is self.scores else self.log_probs)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Candidates:
        scores, rows, tokens = function(self.scores), function(self.rows), function(self.tokens)
        log_probs = scores if self.log_probs is self.scores else function(self.log_probs)
        bank, complete = (None if part is None else function(part) for part in self[4:])
        return Candidates(scores, log_probs, rows, tokens, bank, complete)


class RuleStates(NamedTuple):
    """The states of all rules and of the terms, with a row a hypothesis."""

    rules: tuple[State, ...]
    terms: TermState | None


@dataclass(frozen=True)
class CandidateSelector:
    """Makes the candidates of a step and divides them into `endings` and `continuations`."""

    settings: Search
    rules: Sequence[Rule]
    terms: Terms | None

    @property
    def width(self) -> int:
        """K, the beam of a sentence, or of a group of it in diverse search."""
        return self.settings.beam // self.settings.groups

    def start(self, sentences: int, maxima: Tensor) -> RuleStates:
        """The states before the first token; `maxima` (B,): the most tokens generated for each sentence."""
        term_state = None if self.terms is None else self.terms.start(maxima)
        return RuleStates(tuple(rule.start(sentences) for rule in self.rules), term_state)

    def advance(self, chosen: Tensor, states: RuleStates) -> RuleStates:
        """The states after each row has read its token of `chosen` (N,)."""
        rule_states = tuple(rule.advance(chosen, state) for rule, state in zip(self.rules, states.rules, strict=True))
        terms = None if self.terms is None or states.terms is None else self.terms.advance(chosen, states.terms)
        return RuleStates(rule_states, terms)

    def candidates(
        self, logits: Tensor, beam: Beam, ids: Tensor, states: RuleStates, searches: Tensor | None, *, ends: bool
    ) -> Candidates:
        """The min(2K, W * V) best of all continuations: so many that K endings cannot starve those that go on.

        logits (N, V); `ids` (N, t) are the tokens read so far; `searches` (B,), with groups, is the search that each
        row of the beam belongs to; `ends` says whether `</s>` may follow.
        """
        count = 2 * self.width
        normalisers = log_normalisers(logits)
        if not self.rules and self.terms is None and self.settings.groups == 1:
            # Without rules only the best need be normalised.
            indices = topk_superset(logits, beam.scores - normalisers.view_as(beam.scores), count, first=EOS + 1)
            step = _StepScores(logits, logits, logits, normalisers)
            return _best_candidates(step, indices, beam, count=count, ends=ends)
        log_probs = logits - normalisers[:, None]
        scores = log_probs
        for rule, state in zip(self.rules, states.rules, strict=True):
            scores = rule.apply(scores, ids, state)
        if self.terms is not None and states.terms is not None:
            scores = self.terms.apply(scores, states.terms)
            return self._with_terms(scores, log_probs, beam, self.terms, states.terms, ends=ends)
        if searches is not None:
            return self._diverse(scores, log_probs, beam, searches, ends=ends)
        indices = topk_superset(scores, beam.scores, count, first=EOS + 1)
        return _best_candidates(_StepScores(scores, scores, log_probs), indices, beam, count=count, ends=ends)

    def _with_terms(
        self, scores: Tensor, log_probs: Tensor, beam: Beam, terms: Terms, state: TermState, *, ends: bool
    ) -> Candidates:
        """The likeliest tokens of every row and the next tokens of its missing terms, each with its bank."""
        scores[:, : BOS + 1] = -math.inf  # so that they take none of the few places
        likely = grouped_topk(scores, min(TOKENS_PER_ROW, scores.shape[1]))[1]
        tokens = torch.cat([likely, terms.next_tokens(state)], dim=1)
        tokens = tokens.masked_fill(_duplicates(tokens), PAD).view(len(beam.scores), beam.width, -1)
        rows = torch.arange(beam.width, device=tokens.device)[:, None]
        indices = (tokens + rows * scores.shape[1]).flatten(1)
        # All of them: the only candidate of a bank may stand far behind the best.
        step = _StepScores(scores, scores, log_probs)
        candidates = _best_candidates(step, indices, beam, count=indices.shape[1], ends=ends)
        bank, complete, fits = terms.allocate(candidates.tokens, candidates.rows, state, width=self.width)
        excluded = ~fits & (fits & (candidates.scores > -math.inf)).any(1, keepdim=True)
        scores = candidates.scores.masked_fill(excluded, -math.inf)
        return candidates._replace(scores=scores, bank=bank, complete=complete)

    def _diverse(self, scores: Tensor, log_probs: Tensor, beam: Beam, searches: Tensor, *, ends: bool) -> Candidates:
        """One group after the other, with a penalty on the tokens that the groups before it have chosen at this step.

        The penalty decides which candidates are chosen and is then forgotten: their scores are free of it.
        """
        groups, width = self.settings.groups, beam.width
        sentences = searches // groups
        counts = scores.new_zeros(int(sentences.max()) + 1, scores.shape[1])  # how often each token was chosen
        parts: list[Candidates] = []
        order: list[Tensor] = []
        for group in range(groups):
            members = (searches % groups == group).nonzero()[:, 0]
            if not len(members):  # this group of every sentence is over
                continue
            rows = (members[:, None] * width + torch.arange(width, device=members.device)).flatten()
            penalty = self.settings.diversity * counts[sentences[members]].repeat_interleave(width, dim=0)
            step = _StepScores(scores[rows] - penalty, scores[rows], log_probs[rows])
            group_beam = Beam(beam.scores[members], beam.log_probs[members])
            indices = topk_superset(step.ranking, group_beam.scores, 2 * self.width, first=EOS + 1)
            part = _best_candidates(step, indices, group_beam, count=2 * self.width, ends=ends)
            chosen = part.tokens[:, : self.width]  # endings are avoided as well
            owners = sentences[members][:, None].expand_as(chosen)
            counts.index_put_((owners, chosen), torch.ones_like(chosen, dtype=counts.dtype), accumulate=True)
            parts.append(part._replace(rows=rows[part.rows]))
            order.append(members)
        inverse = torch.cat(order).argsort()
        return Candidates(*(torch.cat(column)[inverse] for column in zip(*(part[:4] for part in parts), strict=True)))

    def endings(self, candidates: Candidates) -> tuple[Candidates, Tensor]:
        """The candidates that count, (B, K) or fewer, and which of them end a sentence.

        A later ending than the K-th candidate would not have stayed in the beam, whatever its token; with terms only
        the candidates that miss none of them count.
        """
        if candidates.complete is None:
            first = Candidates(*(part[:, : self.width] for part in candidates[:4]))
        else:
            eligible = candidates.complete & (candidates.scores > -math.inf)
            order = eligible.byte().argsort(dim=1, descending=True, stable=True)
            first = candidates.gather(order[:, : self.width])
        return first, (first.tokens == EOS) & (first.scores > -math.inf)

    def continuations(self, candidates: Candidates) -> Candidates:
        """The K best candidates that are no endings, best first, (B, W); with terms, first the best of each bank.

        Where there are fewer, the rest are dead rows.
        """
        ended = candidates.tokens == EOS
        scores = candidates.scores.masked_fill(ended, -math.inf)
        continuing = candidates.with_scores(scores)
        if candidates.bank is None:
            return continuing.gather(scores.topk(min(self.width, scores.shape[1])).indices)
        dead = scores == -math.inf
        ranks = _ranks(candidates.bank.masked_fill(dead, -1)).masked_fill(dead, scores.shape[1])
        return continuing.gather(ranks.argsort(dim=1, stable=True)[:, : self.width])


class _StepScores(NamedTuple):
    """The scores of every token after every row, (N, V) each; one and the same tensor where they do not differ."""

    ranking: Tensor  # by which candidates are chosen
    scores: Tensor  # which are added to those of the hypotheses
    log_probs: Tensor  # by the model alone
    normalisers: Tensor | None = None  # (N,) what is still to be subtracted from all three


def _best_candidates(step: _StepScores, indices: Tensor, beam: Beam, *, count: int, ends: bool) -> Candidates:
    """The best `count` continuations of each sentence among `indices` (B, P), row * V + token, each given once."""
    (sentences, width), size = beam.scores.shape, step.ranking.shape[1]
    rows = indices // size
    tokens = indices.sub(rows, alpha=size)
    beam_scores = beam.scores.gather(1, rows)
    forbidden = tokens <= (BOS if ends else EOS)  # the special ids come first: padding, <s>, </s>
    forbidden |= beam_scores == -math.inf  # also where a dead row's logits are NaN

    def add(values: Tensor, offsets: Tensor) -> Tensor:
        sums = values.reshape(sentences, -1).gather(1, indices)
        if step.normalisers is not None:
            sums -= step.normalisers.view(sentences, -1).gather(1, rows)
        return sums.add_(offsets).masked_fill_(forbidden, -math.inf)

    best, order = add(step.ranking, beam_scores).topk(min(count, indices.shape[1]))
    if bool(best.isnan().any()):
        raise ModelError("the model's predictions are not numbers", "its weights are damaged, or overflow: try float32")
    scores = best if step.scores is step.ranking else add(step.scores, beam_scores).gather(1, order)
    log_probs = scores
    if step.log_probs is not step.scores or beam.log_probs is not beam.scores:
        log_probs = add(step.log_probs, beam.log_probs.gather(1, rows)).gather(1, order)
    first_rows = torch.arange(0, sentences * width, width, device=order.device)[:, None]
    return Candidates(scores, log_probs, rows.gather(1, order) + first_rows, tokens.gather(1, order))


def _duplicates(tokens: Tensor) -> Tensor:
    """Which of each row's tokens (N, c) stand in it further left as well."""
    equal = tokens[:, :, None] == tokens[:, None, :]
    return equal.tril(diagonal=-1).any(2)


def _ranks(banks: Tensor) -> Tensor:
    """How many of a sentence's candidates (B, C) further left compete for the same bank."""
    equal = banks[:, :, None] == banks[:, None, :]
    return equal.tril(diagonal=-1).sum(2)
