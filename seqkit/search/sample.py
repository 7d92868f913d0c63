"""Texts drawn token by token from anything that can start and advance.

    read the shortest prompt -> | rules -> draw -> drop rows that are over -> advance, until no row is left

Prompts of unequal length share a batch: what the longer ones have more is forced, token by token. Each row has random
numbers of its own, one a position, made from the seed and the row's number alone: what is drawn for a row depends
neither on its neighbours nor, until it is cut, on the maximum length. Letters: N rows still open, V vocabulary,
t tokens read, prompt included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqkit.batch import Padded
from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.search.hypothesis import EOS, Hypothesis
from seqkit.search.logits import log_normalisers
from seqkit.search.rules import Ban, MinimumLength, Prefix, Rule, check_search, sampling_rules
from seqkit.settings import Search
from seqkit.state import Decodable, Memory, State, select

__all__ = ["sample", "stream"]

ROWS = 64  # drawn side by side
READ = 512  # prompt tokens whose logits exist at a time
BLOCK = 256  # random numbers of a row that are made at a time


def sample(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    *,
    search: Search,
    source: Padded | None = None,
    rules: Sequence[Rule] = (),
    endless: bool = False,
    context: int | None = None,
    first: int = 0,
    numbers: Sequence[int] | None = None,
    limits: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> list[Hypothesis]:
    """Go on once from each prompt, which is all that the model reads first, `<s>` included.

    For several samples of one prompt, give it several times: equal beginnings are read once. With `source` (N, S), row
    n of it belongs to prompt n. `rules` come before those of `search` and start anew with each batch of rows. Random
    numbers are those of rows `first`, `first` + 1, ..., so a long list can be given in parts, or those of the rows
    called `numbers`. `limits` are the most tokens of each row, where they are less than `search.maximum_length`. With
    `endless` `</s>` is a token like any other and ends nothing; `context` is the most tokens that the model can look
    back on (None: all).

    Results have the `ids` after the prompt, without `</s>` unless the text is endless; as `log_prob` and as `score`
    what the model, without rules, gives to all that was drawn, in nats; `finished` is False for what was cut, at the
    maximum length or where nothing may follow. Padding and `<s>` are never drawn.

    Of the search its temperature, `top_k` (1: always the likeliest token), `nucleus`, repetition penalty, `no_repeat`,
    lengths and seed are used. Raises ConfigError for settings out of range, DataError for an empty prompt, ModelError
    if the model's logits are not numbers.
    """
    _check(prompts, search, context)
    draws = _Draws(search, endless, context)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    ids: list[list[int]] = [[] for _ in prompts]
    log_probs = [0.0 for _ in prompts]
    for begin in range(0, len(order), ROWS):
        rows = order[begin : begin + ROWS]
        batch = [prompts[row] for row in rows]
        names = [first + row if numbers is None else numbers[row] for row in rows]
        most = [search.maximum_length if limits is None else limits[row] for row in rows]
        own = None if source is None else select(source, torch.tensor(rows, device=source.ids.device))
        for drawn in _draw(model, batch, names, most, draws=draws, source=own, rules=rules, device=device):
            for place, token, log_prob in zip(*drawn, strict=True):
                ids[rows[place]].append(token)
                log_probs[rows[place]] += log_prob
    found = []
    for own_ids, log_prob in zip(ids, log_probs, strict=True):
        finished = not endless and own_ids[-1:] == [EOS]
        found.append(Hypothesis(tuple(own_ids[:-1] if finished else own_ids), log_prob, log_prob, finished))
    return found


def stream(
    model: Decodable,
    prompt: Sequence[int],
    *,
    search: Search,
    number: int = 0,
    rules: Sequence[Rule] = (),
    endless: bool = False,
    context: int | None = None,
    device: torch.device | None = None,
) -> Iterator[int]:
    """The ids that `sample` gives for prompt `number` if it is this one, each as soon as it is drawn."""
    _check([prompt], search, context)
    draws, most = _Draws(search, endless, context), [search.maximum_length]
    for drawn in _draw(model, [prompt], [number], most, draws=draws, source=None, rules=rules, device=device):
        for token in drawn.tokens:
            if token != EOS or endless:
                yield token


class _Draws(NamedTuple):
    """How tokens are drawn, and what the model makes of `</s>` and of its past."""

    search: Search
    endless: bool
    context: int | None


def _check(prompts: Sequence[Sequence[int]], search: Search, context: int | None) -> None:
    check_search(search)
    if context is not None and context < 1:
        raise ConfigError(f"context is {context}", "it must be 1 or more")
    if not all(len(prompt) for prompt in prompts):
        raise DataError("a prompt is empty", "begin each with <s>, or whatever the model's texts begin with")


class _Drawn(NamedTuple):
    """What one step has brought; rows that still read their prompt, or that nothing may follow, are left out."""

    rows: list[int]
    tokens: list[int]
    log_probs: list[float]


@torch.no_grad()  # not inference mode: tables that a model builds on the way must stay usable in training
def _draw(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    names: Sequence[int],
    limits: Sequence[int],
    *,
    draws: _Draws,
    source: Padded | None,
    rules: Sequence[Rule],
    device: torch.device | None,
) -> Iterator[_Drawn]:
    """Go on from all prompts side by side, a step at a time; their random numbers are those of `names`."""
    search, endless, context = draws
    device = device if source is None else source.ids.device
    shortest = min(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*prompt[:shortest]] for prompt in prompts], device=device)  # (N, t)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (N,)
    places, numbers = torch.arange(len(prompts), device=device), torch.tensor(names, device=device)  # (N,)
    most = torch.tensor([min(limit, search.maximum_length) for limit in limits], device=device)  # (N,)
    rules = _with_prompts(rules, [prompt[shortest:] for prompt in prompts], search=search, device=device)
    memories = tuple(rule.start(len(prompts)) for rule in rules)
    memory, state, logits = _read(model, ids[:, _first(shortest, context) :], source)
    uniform = None
    while True:
        place = ids.shape[1]
        if uniform is None or place % BLOCK == 0:
            uniform = _uniform(search.seed, numbers, place // BLOCK)  # (N, BLOCK)
        scores = logits
        for rule, own in zip(rules, memories, strict=True):
            scores = rule.apply(scores, ids, own)
        chosen = _choose(scores, None if search.top_k == 1 else uniform[:, place % BLOCK])
        log_probs = logits.gather(1, chosen[:, None])[:, 0] - log_normalisers(logits)
        possible = scores.amax(1) != -math.inf
        if bool((log_probs.isnan() & possible).any()):
            raise ModelError(
                "the model's predictions are not numbers", "its weights are damaged, or overflow: try float32"
            )
        drawn = possible & (place >= lengths)
        yield _Drawn(places[drawn].tolist(), chosen[drawn].tolist(), log_probs[drawn].tolist())
        over = ~possible | (place + 1 - lengths >= most)
        if not endless:
            over |= drawn & (chosen == EOS)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        memories = tuple(rule.advance(chosen, own) for rule, own in zip(rules, memories, strict=True))
        if bool(over.any()):
            keep = (~over).nonzero()[:, 0]
            if not len(keep):
                return
            everything = (ids, lengths, most, places, numbers, uniform, memories, source, memory, state)
            ids, lengths, most, places, numbers, uniform, memories, source, memory, state = select(everything, keep)
        first = _first(place + 1, context)
        if first > _first(place, context):
            memory, state, logits = _read(model, ids[:, first:], source)
        else:
            logits, state = model.advance(ids[:, -1:], memory, state)
            logits = logits[:, -1].float()  # (N, V)


def _first(length: int, context: int | None) -> int:
    """Where what the model sees of `length` tokens begins: whenever the context is full, half of it is forgotten."""
    if context is None or length <= context:
        return 0
    half = max(1, context // 2)
    return math.ceil((length - context) / half) * half


def _read(model: Decodable, ids: Tensor, source: Padded | None) -> tuple[Memory, State, Tensor]:
    """Read ids (N, t) from the beginning, equal ones once: memory, state and logits (N, V) of what follows."""
    back = None
    if source is None:
        ids, back = torch.unique(ids, dim=0, return_inverse=True)
    memory, state = model.start(source)
    *parts, last = torch.split(ids, max(1, READ // len(ids)), dim=1)
    for part in parts:
        state = model.advance(part, memory, state).state
    logits, state = model.advance(last, memory, state)
    logits = logits[:, -1].float()
    return (memory, state, logits) if back is None else (memory, *select((state, logits), back))


def _with_prompts(
    rules: Sequence[Rule], rest: Sequence[Sequence[int]], *, search: Search, device: torch.device | None
) -> list[Rule]:
    """All rules in their order; `rest` is what is still to be read of each prompt."""
    longest = max(len(tokens) for tokens in rest)
    forced = [[*tokens, *[-1] * (longest - len(tokens))] for tokens in rest]
    least = torch.tensor([len(tokens) + search.minimum_length for tokens in rest], device=device)
    return [
        Ban(tuple(range(EOS))),
        MinimumLength(least),
        *rules,
        *sampling_rules(search),
        Prefix(torch.tensor(forced, dtype=torch.int64, device=device)),
    ]


def _choose(scores: Tensor, uniform: Tensor | None) -> Tensor:
    """A token of each row of (N, V), drawn with `uniform` numbers (N,) in [0, 1), or the likeliest: (N,)."""
    if uniform is None:
        return scores.argmax(1)
    upto = scores.softmax(1).cumsum(1, dtype=torch.float64)  # what is impossible does not raise it
    chosen = torch.searchsorted(upto, (uniform * upto[:, -1])[:, None], right=True)[:, 0]
    return chosen.clamp(max=scores.shape[1] - 1)  # for rows without a possible token


def _uniform(seed: int, numbers: Tensor, block: int) -> Tensor:
    """Random numbers in [0, 1) of each row for a block of positions, (N, BLOCK)."""
    sequences = (np.random.SeedSequence(seed, spawn_key=(number, block)) for number in numbers.tolist())
    drawn = [np.random.Generator(np.random.PCG64(sequence)).random(BLOCK) for sequence in sequences]
    return torch.from_numpy(np.stack(drawn)).to(numbers.device)
