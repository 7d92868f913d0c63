"""Beam search over anything that can start and advance; a beam of one is greedy decoding by the same code.

    start -> | advance -> add scores -> best 2K -> endings | K others -> select | until every sentence is over

Rows are hypotheses: W of them a sentence, adjacent, where W grows from 1 at the first step to the beam width K as soon
as there are that many. A sentence that has fewer hypotheses alive than its neighbours carries dead rows, at -inf, which
are advanced with the rest but never extended, returned or counted. Letters: B sentences still open, N = B * W rows,
V vocabulary, C candidates a sentence, t tokens so far.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, ModelError
from seqkit.search.hypothesis import BOS, EOS, Hypothesis, rewarded
from seqkit.settings import Search
from seqkit.state import Decodable, State, select

__all__ = ["beam", "largest", "log_normalisers"]

GROUP = 8  # columns that share one maximum in `largest`
BLOCK = 1 << 20  # logits normalised at a time: what a core's cache holds


@torch.no_grad()  # not inference mode: tables that a model builds on the way must stay usable in training
def beam(
    model: Decodable, source: Padded | None, settings: Search, *, sentences: int = 1, prompt: Sequence[int] = (BOS,)
) -> list[list[Hypothesis]]:
    """The `settings.nbest` best sequences for each sentence of `source` (B, S), best first.

    Without a source, `sentences` sequences are begun, on torch's default device. All go on from `prompt`, which the
    model reads first, and which no length, probability or result counts. Finished hypotheses come before
    those cut at the maximum length, each kind by falling score; at least one is returned, never more than `nbest`, and
    none twice. Search for a sentence stops when no continuation could still enter its n-best list, so nothing is lost
    by stopping; a beam of one stops at its first end. What is found does not depend on the other sentences of the
    batch. Probabilities are the model's own: padding and `<s>` are never generated, but what probability the model
    gives them is not handed to the rest.

    Raises ConfigError for settings that cannot be met, ModelError if the model's logits are not numbers.
    """
    _check(settings)
    found = [_Found(settings, maximum) for maximum in _maximum_lengths(source, settings, sentences)]
    active = list(range(len(found)))  # which sentence each row of `total` belongs to
    if not active:
        return []
    device = None if source is None else source.ids.device
    memory, state = model.start(source)
    ids = torch.zeros(len(active), 0, dtype=torch.int64, device=device)  # (N, t)
    total = torch.zeros(len(active), 1, device=device)  # (B, W) float32
    logits, state = model.advance(torch.tensor([[*prompt]] * len(active), device=device), memory, state)
    while True:
        length = ids.shape[1] + 1  # tokens generated, this step's included
        candidates = _candidates(
            logits[:, -1].float(), total, beam=settings.beam, ends=length > settings.minimum_length
        )
        _collect(candidates, ids, [found[sentence] for sentence in active], beam=settings.beam)
        total, parents, tokens = _continuations(candidates, settings.beam)  # (B, W) each
        ids = torch.cat([ids[parents.flatten()], tokens.view(-1, 1)], dim=1)
        keep = [
            row
            for row, (sentence, best) in enumerate(zip(active, total[:, 0].tolist(), strict=True))
            if not found[sentence].over(best, length)
        ]
        if len(keep) < len(active):
            _cut(ids.view(*total.shape, -1), total, [found[sentence] for sentence in active])
            if not keep:
                return [sentence.best() for sentence in found]
            kept = torch.tensor(keep, device=device)
            memory = select(memory, kept)
            ids = ids.view(*total.shape, -1)[kept].flatten(0, 1)
            total, parents = total[kept], parents[kept]
            active = [active[row] for row in keep]
        state = _reorder(state, parents.flatten(), len(logits))
        logits, state = model.advance(ids[:, -1:], memory, state)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row of (N, V) and their columns, (N, count) each, as `topk` gives them.

    The largest values lie in the groups of columns with the largest maxima. Maxima are cheap and `topk` of a long row
    is not: this takes half its time on a CPU.
    """
    rows, size = values.shape
    width = size // GROUP
    if width < 4 * count:
        best, columns = values.topk(count)
        return best, columns
    whole = GROUP * width
    maxima = values[:, :whole].view(rows, GROUP, width).amax(dim=1)  # (N, width), group = column modulo width
    groups = maxima.topk(count, sorted=False).indices
    every = torch.arange(size, device=values.device)
    members = groups[:, None, :] + every[:whole:width, None]  # (N, GROUP, count)
    columns = torch.cat([members.flatten(1), every[whole:].expand(rows, -1)], dim=1)
    best, at = values.gather(1, columns).topk(count)
    return best, columns.gather(1, at)


def log_normalisers(logits: Tensor) -> Tensor:
    """`logsumexp` of each row of (N, V), (N,), in blocks by the fused kernel of log_softmax: a third faster."""
    blocks = logits.chunk(math.ceil(logits.numel() / BLOCK))
    return torch.cat([block.amax(1) - block.log_softmax(1).amax(1) for block in blocks])


class _Candidates(NamedTuple):
    """The best continuations of each sentence, best first; -inf: not possible."""

    scores: Tensor  # (B, C) log-probability of the whole sequence
    rows: Tensor  # (B, C) which of the N rows is continued
    tokens: Tensor  # (B, C) with what


@dataclass
class _Found:
    """What was found for one sentence so far, and whether anything better can come."""

    settings: Search
    maximum: int
    results: list[Hypothesis] = field(default_factory=list)  # best first

    def add(self, ids: Sequence[int], log_prob: float, *, finished: bool) -> None:
        score = rewarded(log_prob, length=len(ids) + finished, reward=self.settings.length_reward)
        hypothesis = Hypothesis(tuple(ids), log_prob, score, finished)
        insort(self.results, hypothesis, key=lambda result: (not result.finished, -result.score))

    def over(self, best: float, length: int) -> bool:
        """Whether search ends here; `best` is the largest log-probability alive, -inf if none is."""
        if length >= self.maximum or best == -math.inf:
            return True
        if len(self.results) < self.settings.nbest:
            return False
        if self.settings.beam == 1:  # greedy decoding has made its choice
            return True
        # Log-probabilities only fall, and the reward is kindest to the longest sequence.
        hope = rewarded(best, length=self.maximum, reward=self.settings.length_reward)
        return hope <= self.results[self.settings.nbest - 1].score

    def best(self) -> list[Hypothesis]:
        # Empty if every path ended where nothing may follow: then the beginning is all there is.
        return self.results[: self.settings.nbest] or [Hypothesis((), 0.0, 0.0, finished=False)]


def _check(settings: Search) -> None:
    if settings.nbest > settings.beam:
        raise ConfigError(
            f"search.nbest is {settings.nbest}, but search.beam is {settings.beam}",
            f"set search.beam to {settings.nbest} or more",
        )
    if settings.minimum_length >= settings.maximum_length:
        raise ConfigError(
            f"search.minimum_length is {settings.minimum_length}, "
            f"but search.maximum_length, the end included, is {settings.maximum_length}",
            f"set search.maximum_length to {settings.minimum_length + 1} or more",
        )


def _maximum_lengths(source: Padded | None, settings: Search, sentences: int) -> list[int]:
    """The most tokens generated for each sentence, `</s>` included; source tokens are counted without theirs."""
    if source is None:
        return [settings.maximum_length] * sentences
    wanted = (
        math.ceil(settings.maximum_ratio * (size - 1) + settings.maximum_extra) for size in source.mask.sum(1).tolist()
    )
    return [max(1, min(settings.maximum_length, size)) for size in wanted]


def _candidates(logits: Tensor, total: Tensor, *, beam: int, ends: bool) -> _Candidates:
    """The min(2K, W * V) best of all continuations: so many that K endings cannot starve those that go on."""
    sentences, width = total.shape
    values, tokens = largest(logits, min(2 * beam + 3, logits.shape[1]))  # (N, c); three may be forbidden
    forbidden = tokens <= (BOS if ends else EOS)  # the special ids come first: padding, <s>, </s>
    values = (values - log_normalisers(logits)[:, None]).masked_fill(forbidden, -math.inf)
    dead = total.view(-1, 1) == -math.inf
    scores = (total.view(-1, 1) + values).masked_fill(dead, -math.inf)  # also where a dead row's logits are NaN
    scores, index = scores.view(sentences, -1).topk(min(2 * beam, width * values.shape[1]))
    if bool(scores.isnan().any()):
        raise ModelError("the model's predictions are not numbers", "its weights are damaged, or overflow: try float32")
    first_rows = torch.arange(0, sentences * width, width, device=total.device)
    rows = index // values.shape[1] + first_rows[:, None]
    return _Candidates(scores, rows, tokens.view(sentences, -1).gather(1, index))


def _collect(candidates: _Candidates, ids: Tensor, found: Sequence[_Found], *, beam: int) -> None:
    """Keep the endings; a later candidate than the K-th would not have stayed in the beam, whatever its token."""
    scores, rows, tokens = (part[:, :beam] for part in candidates)
    ended = (tokens == EOS) & (scores > -math.inf)
    which = ended.nonzero()[:, 0].tolist()
    if which:
        sequences = ids[rows[ended]].tolist()
        for sentence, sequence, log_prob in zip(which, sequences, scores[ended].tolist(), strict=True):
            found[sentence].add(sequence, log_prob, finished=True)


def _continuations(candidates: _Candidates, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, parent rows and tokens of the K best candidates that are no endings, best first, (B, W) each.

    Where there are fewer, endings fill the place as dead rows.
    """
    ended = candidates.tokens == EOS
    order = ended.byte().argsort(dim=1, stable=True)[:, :beam]
    scores = candidates.scores.masked_fill(ended, -math.inf)
    return scores.gather(1, order), candidates.rows.gather(1, order), candidates.tokens.gather(1, order)


def _cut(ids: Tensor, total: Tensor, found: Sequence[_Found]) -> None:
    """Fill n-best lists at the maximum length with what is still alive: ids (B, W, t), total (B, W)."""
    length = ids.shape[2]
    for row, sentence in enumerate(found):
        missing = sentence.settings.nbest - len(sentence.results)
        if length >= sentence.maximum and missing > 0:
            for sequence, log_prob in zip(ids[row, :missing].tolist(), total[row].tolist(), strict=False):
                if log_prob > -math.inf:
                    sentence.add(sequence, log_prob, finished=False)


def _reorder(state: State, parents: Tensor, rows: int) -> State:
    """The state of the rows in `parents`; untouched if these are all `rows` in their order, as in greedy decoding."""
    if len(parents) == rows and torch.equal(parents, torch.arange(rows, device=parents.device)):
        return state
    return select(state, parents)
