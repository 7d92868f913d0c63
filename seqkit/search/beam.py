"""Beam search over anything that can start and advance; a beam of one is greedy decoding by the same code.

    start -> | advance -> rules -> add scores -> best 2K -> endings | K others -> select | until every sentence is over

Rows are hypotheses: W of them a sentence, adjacent, where W grows from 1 at the first step to the beam width K as soon
as there are that many. A sentence that has fewer hypotheses alive than its neighbours carries dead rows, at -inf, which
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
from seqkit.search.hypothesis import BOS, Hypothesis, rewarded
from seqkit.search.rules import Rule, check_search, repetition_rules
from seqkit.search.terms import Terms
from seqkit.settings import Search
from seqkit.state import Decodable, State, select

__all__ = ["beam", "maximum_lengths"]

SLACK = 1 / 8  # share of the searches of a batch that may be over before the others move together


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

    Without a source, `sentences` sequences are begun, on torch's default device. All go on from `prompt`, which the
    model reads first, and which no length, probability or result counts. Finished hypotheses come before
    those cut at the maximum length, each kind by falling score; at least one is returned, never more than `nbest`, and
    none twice. Search for a sentence stops when no continuation could still enter its n-best list, so nothing is lost
    by stopping, unless `settings.patience` asks for less; a beam of one stops at its first end. What is found does not
    depend on the other sentences of the batch. Probabilities are the model's own: padding and `<s>` are never
    generated, but what probability the model gives them is not handed to the rest.

    `rules` have a row a sentence; they change log-probabilities before these are compared, may only lower them, and
    come after those that are settings. With `terms` the beam is shared out among hypotheses by how much of their
    sentence's terms they have (Post and Vilar, 2018). `settings.groups` > 1 is the diverse search of Vijayakumar et al.
    (2018) with Hamming diversity.

    Raises ConfigError for settings that cannot be met, ModelError if the model's logits are not numbers.
    """
    _check(settings, terms)
    chooser = CandidateSelector(settings, [*repetition_rules(settings), *rules], terms)
    maxima = maximum_lengths(source, settings, sentences)
    if terms is not None:  # there must be room for them
        maxima = [min(settings.maximum_length, most + terms.size(row)) for row, most in enumerate(maxima)]
    found = [_Found(settings, chooser.width, most) for most in maxima for _ in range(settings.groups)]
    if not found:
        return []
    device = None if source is None else source.ids.device
    active = list(range(len(found)))  # which search each row of the beam belongs to
    memory, state = model.start(source)
    marks = chooser.start(len(maxima), torch.tensor(maxima, device=device))
    if settings.groups > 1:
        copies = torch.arange(len(maxima), device=device).repeat_interleave(settings.groups)
        memory, state, marks = select((memory, state, marks), copies)
    ids = torch.tensor([[*prompt]] * len(active), device=device)  # (N, t), the prompt included
    nothing = torch.zeros(len(active), 1, device=device)
    now = Beam(nothing, nothing)
    logits, state = model.advance(ids, memory, state)
    while True:
        length = ids.shape[1] + 1 - len(prompt)  # tokens generated, this step's included
        searches = torch.tensor(active, device=device) if settings.groups > 1 else None
        candidates = chooser.candidates(
            logits[:, -1].float(), now, ids, marks, searches, ends=length > settings.minimum_length
        )
        open_searches = [found[search] for search in active]
        _collect(*chooser.endings(candidates), ids[:, len(prompt) :], open_searches)
        going = chooser.continuations(candidates)  # (B, W)
        keep = [
            row
            for row, (search, best) in enumerate(zip(open_searches, going.total.amax(1).tolist(), strict=True))
            if not search.over(best, length)
        ]
        if len(keep) < len(active):
            _cut(going, ids[:, len(prompt) :], open_searches, length)
            if not keep:
                return [_merged(found[i : i + settings.groups]) for i in range(0, len(found), settings.groups)]
            kept = torch.tensor(keep, device=device)
            if len(active) - len(keep) > SLACK * len(active):
                memory = select(memory, kept)
                going = going.of(kept)
                active = [active[row] for row in keep]
            else:  # it costs less to drag a few dead rows along than to copy all others
                going = going.alive_in(kept)
        now = Beam(going.total, going.own)
        parents, tokens = going.rows.flatten(), going.tokens.flatten()
        ids = torch.cat([ids[parents], tokens[:, None]], dim=1)
        marks = chooser.advance(tokens, select(marks, parents))
        state = _reorder(state, parents, len(logits))
        logits, state = model.advance(ids[:, -1:], memory, state)


@dataclass
class _Found:
    """What was found by one search so far, and whether anything better can come."""

    settings: Search
    width: int
    maximum: int
    results: list[Hypothesis] = field(default_factory=list)  # best first

    def add(self, ids: Sequence[int], total: float, own: float, *, finished: bool) -> None:
        score = self._rewarded(total, len(ids) + finished)
        hypothesis = Hypothesis(tuple(ids), own, score, finished)
        insort(self.results, hypothesis, key=lambda result: (not result.finished, -result.score))

    def over(self, best: float, length: int) -> bool:
        """Whether search ends here; `best` is the largest total alive, -inf if none is."""
        if length >= self.maximum or best == -math.inf:
            return True
        if len(self.results) < self.wanted:
            return False
        if self.settings.beam == 1:  # greedy decoding has made its choice
            return True
        if self.settings.patience and len(self.results) >= self.settings.patience * self.width:
            return True
        # Totals only fall, and the reward is kindest to the longest sequence.
        return self._rewarded(best, self.maximum) <= self.results[self.wanted - 1].score

    @property
    def wanted(self) -> int:
        return min(self.settings.nbest, self.width)

    def _rewarded(self, log_prob: float, length: int) -> float:
        settings = self.settings
        return rewarded(
            log_prob, length=length, reward=settings.length_reward, normalisation=settings.length_normalisation
        )


def _merged(searches: Sequence[_Found]) -> list[Hypothesis]:
    """The n-best list of a sentence from all its groups: one that several have found stands there once."""
    results = {result.ids: result for search in reversed(searches) for result in reversed(search.results)}
    best = sorted(results.values(), key=lambda result: (not result.finished, -result.score))
    # Empty if every path ended where nothing may follow: then the beginning is all there is.
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
    wanted = (
        math.ceil(settings.maximum_ratio * (size - 1) + settings.maximum_extra) for size in source.mask.sum(1).tolist()
    )
    return [max(1, min(settings.maximum_length, size)) for size in wanted]


def _collect(candidates: Candidates, ended: Tensor, ids: Tensor, found: Sequence[_Found]) -> None:
    """Keep the endings among the candidates (B, K) of hypotheses ids (N, t)."""
    which = ended.nonzero()[:, 0].tolist()
    if which:
        sequences = ids[candidates.rows[ended]].tolist()
        totals, own = candidates.total[ended].tolist(), candidates.own[ended].tolist()
        for search, sequence, total, alone in zip(which, sequences, totals, own, strict=True):
            found[search].add(sequence, total, alone, finished=True)


def _cut(going: Candidates, ids: Tensor, found: Sequence[_Found], length: int) -> None:
    """Fill n-best lists at the maximum length with what is still alive, (B, W)."""
    for row, search in enumerate(found):
        missing = search.wanted - len(search.results)
        if length >= search.maximum and missing > 0:
            alive = [place for place in range(going.total.shape[1]) if going.total[row, place] > -math.inf][:missing]
            for place in alive:
                sequence = [*ids[going.rows[row, place]].tolist(), int(going.tokens[row, place])]
                search.add(sequence, float(going.total[row, place]), float(going.own[row, place]), finished=False)


def _reorder(state: State, parents: Tensor, rows: int) -> State:
    """The state of the rows in `parents`; untouched if these are all `rows` in their order, as in greedy decoding."""
    if len(parents) == rows and torch.equal(parents, torch.arange(rows, device=parents.device)):
        return state
    return select(state, parents)
