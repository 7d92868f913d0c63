"""Beam search over anything that can start and advance; a beam of one is greedy decoding by the same code.

    start -> | advance -> rules -> add scores -> best 2K -> endings | K others -> select | until every sentence is over

Rows are hypotheses: W of them a sentence, adjacent, where W grows from 1 at the first step to the beam width K as soon
as there are that many. A sentence that has fewer open hypotheses than its neighbours carries dead rows, at -inf, which
are advanced with the rest but never extended, returned or counted. In diverse search each group of a sentence's beam is
a search of its own. Letters: B searches still open, N = B * W rows, V vocabulary, t tokens so far.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError
from seqkit.search.candidates import Beam, Candidates, CandidateSelector
from seqkit.search.hypothesis import BOS, Hypothesis, length_normalised
from seqkit.search.rules import Rule, check_search, repetition_rules
from seqkit.search.terms import Terms
from seqkit.settings import Search
from seqkit.state import Decodable, State, select

__all__ = ["beam", "maximum_lengths"]

DEAD_SHARE = 1 / 8  # share of the searches of a batch that may be over before their rows are removed


@torch.no_grad()  # not inference mode: tables that a model builds on the way must stay usable in training
def beam(
    model: Decodable,
    source: Padded | None,
    settings: Search,
    *,
    sentences: int = 1,
    prompt: Sequence[int] = (BOS,),
    rules: Sequence[Rule] = (),
    terms: Terms | None = None,
) -> list[list[Hypothesis]]:
    """The `settings.nbest` best sequences for each sentence of `source` (B, S), best first.

    Without a source there are `sentences` sequences, on torch's default device. All continue `prompt`, which the
    model reads first, and which no length, probability or result counts. Finished hypotheses come before
    those cut at the maximum length, each kind by falling score; at least one is returned, never more than `nbest`, and
    none twice. The search for a sentence stops when no continuation could still enter its n-best list, so nothing is
    lost by stopping, unless `settings.patience` asks for less; a beam of one stops at its first end. The results do not
    depend on the other sentences of the batch. Probabilities are the model's own: padding and `<s>` are never
    generated, but the probability that the model gives them is not redistributed.

    `rules` have a row a sentence; they change log-probabilities before these are compared, may only lower them, and
    come after those that are settings. With `terms` the beam is divided into banks by how much of their sentence's
    terms the hypotheses have (Post and Vilar, 2018). `settings.groups` > 1 is the diverse search of Vijayakumar et al.
    (2018) with Hamming diversity.

    Raises ConfigError for settings that cannot be met, ModelError if the model's logits are not numbers.
    """
    _check(settings, terms)
    selector = CandidateSelector(settings, [*repetition_rules(settings), *rules], terms)
    maxima = maximum_lengths(source, settings, sentences)
    if terms is not None:  # there must be room for them
        maxima = [min(settings.maximum_length, maximum + terms.size(row)) for row, maximum in enumerate(maxima)]
    nbest = [_NBestList(settings, selector.width, maximum) for maximum in maxima for _ in range(settings.groups)]
    if not nbest:
        return []
    device = None if source is None else source.ids.device
    active = list(range(len(nbest)))  # which search each row of the beam belongs to
    memory, state = model.start(source)
    rule_states = selector.start(len(maxima), torch.tensor(maxima, device=device))
    if settings.groups > 1:
        copies = torch.arange(len(maxima), device=device).repeat_interleave(settings.groups)
        memory, state, rule_states = select((memory, state, rule_states), copies)
    ids = torch.tensor([[*prompt]] * len(active), device=device)  # (N, t), the prompt included
    zeros = torch.zeros(len(active), 1, device=device)
    open_beam = Beam(zeros, zeros)
    logits, state = model.advance(ids, memory, state)
    while True:
        length = ids.shape[1] + 1 - len(prompt)  # tokens generated, this step's included
        searches = torch.tensor(active, device=device) if settings.groups > 1 else None
        candidates = selector.candidates(
            logits[:, -1].float(), open_beam, ids, rule_states, searches, ends=length > settings.minimum_length
        )
        active_lists = [nbest[search] for search in active]
        _add_finished(active_lists, *selector.endings(candidates), ids[:, len(prompt) :])
        continuing = selector.continuations(candidates)  # (B, W)
        keep = [
            row
            for row, (results, best) in enumerate(zip(active_lists, continuing.scores.amax(1).tolist(), strict=True))
            if not results.is_final(best, length)
        ]
        if len(keep) < len(active):
            _add_unfinished(active_lists, continuing, ids[:, len(prompt) :], length)
            if not keep:
                return [_merge_groups(nbest[i : i + settings.groups]) for i in range(0, len(nbest), settings.groups)]
            open_rows = torch.tensor(keep, device=device)
            if len(active) - len(keep) > DEAD_SHARE * len(active):
                memory = select(memory, open_rows)
                continuing = continuing.select(open_rows)
                active = [active[row] for row in keep]
            else:  # to advance a few dead rows costs less than to copy all others
                continuing = continuing.mask_all_but(open_rows)
        open_beam = Beam(continuing.scores, continuing.log_probs)
        parents, tokens = continuing.rows.flatten(), continuing.tokens.flatten()
        ids = torch.cat([ids[parents], tokens[:, None]], dim=1)
        rule_states = selector.advance(tokens, select(rule_states, parents))
        state = _reorder(state, parents, len(logits))
        logits, state = model.advance(ids[:, -1:], memory, state)


@dataclass
class _NBestList:
    """The results of one search so far, best first, and the rule by which the search stops."""

    settings: Search
    width: int
    maximum: int
    results: list[Hypothesis] = field(default_factory=list)

    def add(self, ids: Sequence[int], total: float, log_prob: float, *, finished: bool) -> None:
        """Insert a hypothesis whose log-probabilities sum to `total` by the rules and to `log_prob` by the model."""
        score = self._score(total, len(ids) + finished)
        hypothesis = Hypothesis(tuple(ids), log_prob, score, finished)
        insort(self.results, hypothesis, key=lambda result: (not result.finished, -result.score))

    def is_final(self, best: float, length: int) -> bool:
        """Whether the search stops after `length` tokens; `best` is the largest sum that is open, -inf if none is."""
        if length >= self.maximum or best == -math.inf:
            return True
        if len(self.results) < self.size:
            return False
        if self.settings.beam == 1:  # greedy decoding has made its choice
            return True
        if self.settings.patience and len(self.results) >= self.settings.patience * self.width:
            return True
        # Sums only fall, and normalisation favours the longest sequence.
        return self._score(best, self.maximum) <= self.results[self.size - 1].score

    @property
    def size(self) -> int:
        """How many hypotheses are to be returned."""
        return min(self.settings.nbest, self.width)

    def _score(self, log_prob: float, length: int) -> float:
        settings = self.settings
        return length_normalised(
            log_prob, length=length, reward=settings.length_reward, normalisation=settings.length_normalisation
        )


def _merge_groups(searches: Sequence[_NBestList]) -> list[Hypothesis]:
    """The n-best list of a sentence from those of its groups, without duplicates."""
    results = {result.ids: result for search in reversed(searches) for result in reversed(search.results)}
    best = sorted(results.values(), key=lambda result: (not result.finished, -result.score))
    # Empty if every path ended where nothing may follow: then the empty sequence is the only result.
    return best[: searches[0].settings.nbest] or [Hypothesis((), 0.0, 0.0, finished=False)]


def _check(settings: Search, terms: Terms | None) -> None:
    check_search(settings)
    if settings.nbest > settings.beam:
        raise ConfigError(
            f"search.nbest is {settings.nbest}, but search.beam is {settings.beam}",
            f"set search.beam to {settings.nbest} or more",
        )
    if settings.beam % settings.groups:
        raise ConfigError(
            f"search.beam is {settings.beam}, which {settings.groups} groups cannot share",
            f"set search.beam to a multiple of search.groups, such as {settings.groups * 2}",
        )
    if terms is not None and settings.groups > 1:
        raise ConfigError("terms that must occur and groups of a beam exclude each other", "set search.groups=1")


def maximum_lengths(source: Padded | None, settings: Search, sentences: int) -> list[int]:
    """The most tokens generated for each sentence, `</s>` included; source tokens are counted without theirs."""
    if source is None:
        return [settings.maximum_length] * sentences
    limits = (
        math.ceil(settings.maximum_ratio * (size - 1) + settings.maximum_extra) for size in source.mask.sum(1).tolist()
    )
    return [max(1, min(settings.maximum_length, limit)) for limit in limits]


def _add_finished(nbest: Sequence[_NBestList], candidates: Candidates, ended: Tensor, ids: Tensor) -> None:
    """Add the candidates (B, K) that `ended` marks and that continue the hypotheses ids (N, t)."""
    searches = ended.nonzero()[:, 0].tolist()
    if searches:
        sequences = ids[candidates.rows[ended]].tolist()
        totals, log_probs = candidates.scores[ended].tolist(), candidates.log_probs[ended].tolist()
        for search, sequence, total, log_prob in zip(searches, sequences, totals, log_probs, strict=True):
            nbest[search].add(sequence, total, log_prob, finished=True)


def _add_unfinished(nbest: Sequence[_NBestList], continuing: Candidates, ids: Tensor, length: int) -> None:
    """Fill lists that have reached their maximum length with the best hypotheses still open, (B, W)."""
    for row, results in enumerate(nbest):
        missing = results.size - len(results.results)
        if length >= results.maximum and missing > 0:
            columns = range(continuing.scores.shape[1])
            possible = [column for column in columns if continuing.scores[row, column] > -math.inf]
            for column in possible[:missing]:
                sequence = [*ids[continuing.rows[row, column]].tolist(), int(continuing.tokens[row, column])]
                total, log_prob = float(continuing.scores[row, column]), float(continuing.log_probs[row, column])
                results.add(sequence, total, log_prob, finished=False)


def _reorder(state: State, parents: Tensor, rows: int) -> State:
    """The state of the rows in `parents`; untouched if these are all `rows` in their order, as in greedy decoding."""
    if len(parents) == rows and torch.equal(parents, torch.arange(rows, device=parents.device)):
        return state
    return select(state, parents)
