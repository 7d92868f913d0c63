"""Rules that change a model's scores before a token is chosen: which tokens may follow, and how likely each is.

    for rule, state in zip(rules, states): scores = rule.apply(scores, ids, state)      # in the order of the list
    states = [rule.advance(chosen, state) for rule, state in zip(rules, states)]

Scores (N, V) are logits: they need not be normalised, and -inf is for tokens that may not follow. A rule returns new
scores and keeps nothing between calls; what it needs of each row's past is a state, which `select` re-orders like a
model's.
All rows have read equally many tokens `ids` (N, t), `<s>` and their prompts included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
import torch
from torch import Tensor

from seqkit.errors import ConfigError
from seqkit.search.hypothesis import EOS
from seqkit.search.logits import grouped_topk, log_normalisers
from seqkit.settings import Search
from seqkit.state import Decodable, Memory, State

__all__ = [
    "Ban",
    "BanPhrases",
    "Fusion",
    "MinimumLength",
    "NoRepeat",
    "Nucleus",
    "Prefix",
    "RepetitionPenalty",
    "Rule",
    "Stateless",
    "Temperature",
    "TopK",
    "check_search",
    "repetition_rules",
    "sampling_rules",
]

NUCLEUS_TOKENS = 128  # likeliest tokens among which a nucleus is looked for first


class Rule(Protocol):
    """A change of scores, and the state that it needs."""

    def start(self, rows: int) -> State:
        """The state before the first token."""
        ...

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        ...

    def advance(self, chosen: Tensor, state: State) -> State:
        """The state after each row has read its token of `chosen` (N,)."""
        ...


def check_search(search: Search) -> None:
    """Raise ConfigError for settings that are out of range, or that exclude each other whatever is searched."""
    try:
        msgspec.convert(msgspec.to_builtins(search), Search)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        problem = f"search.{path.rstrip('`')} is out of range: {reason[:1].lower()}{reason[1:]}"
        raise ConfigError(problem, "set another value") from None
    if search.minimum_length >= search.maximum_length:
        raise ConfigError(
            f"search.minimum_length is {search.minimum_length}, "
            f"but search.maximum_length, the end included, is {search.maximum_length}",
            f"set search.maximum_length to {search.minimum_length + 1} or more",
        )


def repetition_rules(search: Search) -> list[Rule]:
    """The rules against repetition that are settings."""
    rules: list[Rule] = []
    if search.no_repeat:
        rules.append(NoRepeat(search.no_repeat))
    if search.repetition_penalty > 1:
        rules.append(RepetitionPenalty(search.repetition_penalty))
    return rules


def sampling_rules(search: Search) -> list[Rule]:
    """The rules of sampling that are settings, in the order in which they are applied."""
    rules = repetition_rules(search)
    if search.top_k == 1:
        return rules  # the other rules keep the likeliest token
    if search.temperature != 1:
        rules.append(Temperature(search.temperature))
    if search.top_k:
        rules.append(TopK(search.top_k))
    if search.nucleus < 1:
        rules.append(Nucleus(search.nucleus))
    return rules


class Stateless:
    """The start and advance of a rule that needs no state."""

    def start(self, rows: int) -> State:
        """The state before the first token: none."""
        return None

    def advance(self, chosen: Tensor, state: State) -> State:
        """The state after a token: none."""
        return state


@dataclass(frozen=True)
class Temperature(Stateless):
    """Scores divided by `value` > 0: below 1 likely tokens become likelier, above 1 all tokens more alike."""

    value: float

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        return scores / self.value


@dataclass(frozen=True)
class TopK(Stateless):
    """Only the `count` likeliest tokens may follow (Fan et al., 2018); of equally likely ones at the border, some."""

    count: int

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        best, columns = grouped_topk(scores, min(self.count, scores.shape[1]))
        return torch.full_like(scores, -math.inf).scatter_(1, columns, best)


@dataclass(frozen=True)
class Nucleus(Stateless):
    """Only the fewest tokens that together have the probability `mass` may follow (Holtzman et al., 2020)."""

    mass: float

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        total = log_normalisers(scores)[:, None]
        nucleus = torch.full_like(scores, -math.inf)
        rows, count = torch.arange(len(scores), device=scores.device), NUCLEUS_TOKENS
        while len(rows):  # to sort all tokens of all rows would take longer than everything else
            best, columns = grouped_topk(scores[rows], min(count, scores.shape[1]))
            probabilities = (best - total[rows]).exp()
            cumulative = probabilities.cumsum(1)
            nucleus[rows[:, None], columns] = best.masked_fill(cumulative - probabilities >= self.mass, -math.inf)
            rows = rows[(cumulative[:, -1] < self.mass) & (count < scores.shape[1])]
            count *= 8
        return nucleus


@dataclass(frozen=True)
class RepetitionPenalty(Stateless):
    """Tokens that have occurred become less likely: their scores are divided by `factor` >= 1 (Keskar et al., 2019).

    Scores below 0 are multiplied instead, or the penalty would be a reward. `</s>` is spared, as line breaks are by
    Keskar et al.
    """

    factor: float

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        old = scores.gather(1, ids)
        new = torch.where(old < 0, old * self.factor, old / self.factor)
        return scores.scatter(1, ids, torch.where(ids > EOS, new, old))


@dataclass(frozen=True)
class NoRepeat(Stateless):
    """No n-gram of `size` tokens occurs twice (Paulus et al., 2018), unless `</s>` is the last of them."""

    size: int

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        length = ids.shape[1]
        if length < self.size:
            return scores
        grams = ids.unfold(1, self.size, 1)  # (N, t - size + 1, size)
        repeats = (grams[:, :, :-1] == ids[:, None, length - self.size + 1 :]).all(2)
        last = grams[:, :, -1]
        # Where there is no repetition padding is banned, which is never generated anyway.
        return scores.scatter(1, last.where(repeats & (last > EOS), 0), -math.inf)


@dataclass(frozen=True)
class Ban(Stateless):
    """Certain tokens never follow."""

    tokens: tuple[int, ...]

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        return scores.index_fill(1, torch.tensor(self.tokens, device=scores.device), -math.inf)


@dataclass(frozen=True)
class BanPhrases(Stateless):
    """Certain sequences of tokens never occur: the last token of each may not follow the others."""

    phrases: tuple[tuple[int, ...], ...]

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        scores = scores.clone()
        for *before, last in self.phrases:
            if len(before) > ids.shape[1]:
                continue
            recent = ids[:, ids.shape[1] - len(before) :]
            matches = (recent == torch.tensor(before, dtype=ids.dtype, device=ids.device)).all(1)
            scores[:, last].masked_fill_(matches, -math.inf)
        return scores


class FusionState(NamedTuple):
    """The other model's predictions of the next token, and its state."""

    log_probs: Tensor  # (N, V)
    state: State


@dataclass(frozen=True, eq=False)
class Fusion:
    """Shallow fusion: the log-probabilities of another model, times `weight`, are added (Gulcehre et al., 2015).

    That model shares the vocabulary, has no source, and reads `prompt` first, whatever the sentence.
    """

    model: Decodable
    weight: float
    prompt: tuple[int, ...]
    device: torch.device | None = None

    def start(self, rows: int) -> FusionState:
        """The state before the first token."""
        memory, state = self.model.start(None)
        return self._read(torch.tensor([self.prompt] * rows, device=self.device), memory, state)

    def apply(self, scores: Tensor, ids: Tensor, state: FusionState) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        return scores + self.weight * state.log_probs

    def advance(self, chosen: Tensor, state: FusionState) -> FusionState:
        """The state after each row has read its token of `chosen` (N,)."""
        return self._read(chosen[:, None], None, state.state)

    def _read(self, tokens: Tensor, memory: Memory, state: State) -> FusionState:
        logits, state = self.model.advance(tokens, memory, state)
        return FusionState(logits[:, -1].float().log_softmax(1), state)


@dataclass(frozen=True, eq=False)
class MinimumLength:
    """No `</s>` before each row has `tokens` tokens more. The state counts them down."""

    tokens: Tensor  # (N,)

    def start(self, rows: int) -> State:
        """The state before the first token."""
        return self.tokens

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        scores = scores.clone()
        scores[:, EOS].masked_fill_(state > 0, -math.inf)
        return scores

    def advance(self, chosen: Tensor, state: State) -> State:
        """The state after each row has read its token of `chosen` (N,)."""
        return state - 1


@dataclass(frozen=True, eq=False)
class Prefix:
    """Each row continues with given tokens, then freely; the last rule of a list, as it overrules those before it.

    A forced token keeps its score, or has 0 where it was impossible. The state holds the tokens that are still to come.
    """

    tokens: Tensor  # (N, P), -1 after the end of the shorter ones

    def start(self, rows: int) -> State:
        """The state before the first token."""
        return self.tokens

    def apply(self, scores: Tensor, ids: Tensor, state: State) -> Tensor:
        """New scores (N, V) for what may follow `ids` (N, t)."""
        if not state.shape[1]:
            return scores
        token = state[:, :1]
        score = scores.gather(1, token.clamp(min=0))
        score = score.masked_fill(score == -math.inf, 0.0)
        forced = torch.full_like(scores, -math.inf).scatter_(1, token.clamp(min=0), score)
        return torch.where(token < 0, scores, forced)

    def advance(self, chosen: Tensor, state: State) -> State:
        """The state after each row has read its token of `chosen` (N,)."""
        return state[:, 1:]
