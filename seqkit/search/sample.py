"""Sampling: texts drawn token by token from anything that can start and advance.

    read the shortest prompt -> | rules -> draw -> drop rows that are over -> advance, until no row is left

Prompts of unequal length share a batch: the rest of the longer ones is forced, token by token. Each row has a stream of
random numbers of its own, one a position, made from the seed and the row's number alone: a sample depends neither on
its neighbours nor, until it is cut, on the maximum length. Letters: N rows still open, V vocabulary, t tokens read,
prompt included.
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

ROWS = 64  # samples drawn in one batch
PROMPT_TOKENS = 512  # prompt tokens of a batch whose logits exist at a time
RANDOM_BLOCK = 256  # random numbers of a row that are made at a time


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
    """One sample for each prompt; a prompt is all that the model reads first, `<s>` included.

    For several samples of one prompt, give it several times: equal beginnings are read once. With `source` (N, S), row
    n of it belongs to prompt n. `rules` come before those of `search` and start from the beginning with each batch of
    rows. The rows' random numbers are those of the streams `first`, `first` + 1, ..., so a long list can be given in
    parts, or of the streams in `numbers`. `limits` are the most tokens of each row, where they are less than
    `search.maximum_length`. With `endless` `</s>` is a token like any other and ends nothing; `context` is the most
    tokens that the model can attend to (None: all).

    Results have the `ids` after the prompt, without `</s>` unless the text is endless; `log_prob` and `score` are both
    the log-probability of all drawn tokens by the model alone, in nats; `finished` is False for a text that was cut, at
    the maximum length or where nothing may follow. Padding and `<s>` are never drawn.

    Of the search its temperature, `top_k` (1: always the likeliest token), `nucleus`, repetition penalty, `no_repeat`,
    lengths and seed are used. Raises ConfigError for settings out of range, DataError for an empty prompt, ModelError
    if the model's logits are not numbers.
    """
    _check(prompts, search, context)
    options = _Options(search, endless, context)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    ids: list[list[int]] = [[] for _ in prompts]
    log_probs = [0.0 for _ in prompts]
    for begin in range(0, len(order), ROWS):
        rows = order[begin : begin + ROWS]
        batch = [prompts[row] for row in rows]
        streams = [first + row if numbers is None else numbers[row] for row in rows]
        maxima = [search.maximum_length if limits is None else limits[row] for row in rows]
        batch_source = None if source is None else select(source, torch.tensor(rows, device=source.ids.device))
        for step in _steps(
            model, batch, streams, maxima, options=options, source=batch_source, rules=rules, device=device
        ):
            for index, token, log_prob in zip(*step, strict=True):
                ids[rows[index]].append(token)
                log_probs[rows[index]] += log_prob
    samples = []
    for tokens, log_prob in zip(ids, log_probs, strict=True):
        finished = not endless and tokens[-1:] == [EOS]
        samples.append(Hypothesis(tuple(tokens[:-1] if finished else tokens), log_prob, log_prob, finished))
    return samples


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
    """The ids of the sample that `sample` draws for `prompt` from stream `number`, each as soon as it is drawn."""
    _check([prompt], search, context)
    options, maxima = _Options(search, endless, context), [search.maximum_length]
    for step in _steps(model, [prompt], [number], maxima, options=options, source=None, rules=rules, device=device):
        for token in step.tokens:
            if token != EOS or endless:
                yield token


class _Options(NamedTuple):
    """The arguments of `sample` that hold for all rows."""

    search: Search
    endless: bool
    context: int | None


def _check(prompts: Sequence[Sequence[int]], search: Search, context: int | None) -> None:
    check_search(search)
    if context is not None and context < 1:
        raise ConfigError(f"context is {context}", "it must be 1 or more")
    if not all(len(prompt) for prompt in prompts):
        raise DataError("a prompt is empty", "begin each with <s>, or whatever the model's texts begin with")


class _Step(NamedTuple):
    """The tokens drawn in one step; rows that still read their prompt, or that nothing may follow, are left out."""

    rows: list[int]
    tokens: list[int]
    log_probs: list[float]


@torch.no_grad()  # not inference mode: tables that a model builds on the way must stay usable in training
def _steps(
    model: Decodable,
    prompts: Sequence[Sequence[int]],
    streams: Sequence[int],
    limits: Sequence[int],
    *,
    options: _Options,
    source: Padded | None,
    rules: Sequence[Rule],
    device: torch.device | None,
) -> Iterator[_Step]:
    """Continue all prompts in one batch, a step at a time, with the random numbers of `streams`."""
    search, endless, context = options
    device = device if source is None else source.ids.device
    shortest = min(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*prompt[:shortest]] for prompt in prompts], device=device)  # (N, t)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)  # (N,)
    rows, numbers = torch.arange(len(prompts), device=device), torch.tensor(streams, device=device)  # (N,)
    maxima = torch.tensor([min(limit, search.maximum_length) for limit in limits], device=device)  # (N,)
    rules = _with_prompts(rules, [prompt[shortest:] for prompt in prompts], search=search, device=device)
    rule_states = tuple(rule.start(len(prompts)) for rule in rules)
    memory, state, logits = _read(model, ids[:, _context_start(shortest, context) :], source)
    uniform = None
    while True:
        position = ids.shape[1]
        if uniform is None or position % RANDOM_BLOCK == 0:
            uniform = _uniform_numbers(search.seed, numbers, position // RANDOM_BLOCK)  # (N, RANDOM_BLOCK)
        scores = logits
        for rule, rule_state in zip(rules, rule_states, strict=True):
            scores = rule.apply(scores, ids, rule_state)
        chosen = _choose(scores, None if search.top_k == 1 else uniform[:, position % RANDOM_BLOCK])
        log_probs = logits.gather(1, chosen[:, None])[:, 0] - log_normalisers(logits)
        possible = scores.amax(1) != -math.inf
        if bool((log_probs.isnan() & possible).any()):
            raise ModelError(
                "the model's predictions are not numbers", "its weights are damaged, or overflow: try float32"
            )
        drawn = possible & (position >= lengths)
        yield _Step(rows[drawn].tolist(), chosen[drawn].tolist(), log_probs[drawn].tolist())
        over = ~possible | (position + 1 - lengths >= maxima)
        if not endless:
            over |= drawn & (chosen == EOS)
        ids = torch.cat([ids, chosen[:, None]], dim=1)
        rule_states = tuple(rule.advance(chosen, old) for rule, old in zip(rules, rule_states, strict=True))
        if bool(over.any()):
            keep = (~over).nonzero()[:, 0]
            if not len(keep):
                return
            everything = (ids, lengths, maxima, rows, numbers, uniform, rule_states, source, memory, state)
            ids, lengths, maxima, rows, numbers, uniform, rule_states, source, memory, state = select(everything, keep)
        first = _context_start(position + 1, context)
        if first > _context_start(position, context):
            memory, state, logits = _read(model, ids[:, first:], source)
        else:
            logits, state = model.advance(ids[:, -1:], memory, state)
            logits = logits[:, -1].float()  # (N, V)


def _context_start(length: int, context: int | None) -> int:
    """The first of `length` tokens that the model sees: whenever the context is full, its first half is dropped."""
    if context is None or length <= context:
        return 0
    half = max(1, context // 2)
    return math.ceil((length - context) / half) * half


def _read(model: Decodable, ids: Tensor, source: Padded | None) -> tuple[Memory, State, Tensor]:
    """Read ids (N, t) from the first state, equal rows once: memory, state and logits (N, V) of the next token."""
    inverse = None
    if source is None:
        ids, inverse = torch.unique(ids, dim=0, return_inverse=True)
    memory, state = model.start(source)
    *parts, last = torch.split(ids, max(1, PROMPT_TOKENS // len(ids)), dim=1)
    for part in parts:
        state = model.advance(part, memory, state).state
    logits, state = model.advance(last, memory, state)
    logits = logits[:, -1].float()
    return (memory, state, logits) if inverse is None else (memory, *select((state, logits), inverse))


def _with_prompts(
    rules: Sequence[Rule], rest: Sequence[Sequence[int]], *, search: Search, device: torch.device | None
) -> list[Rule]:
    """All rules in their order; `rest` are the tokens of each prompt that are not read yet."""
    longest = max(len(tokens) for tokens in rest)
    forced = [[*tokens, *[-1] * (longest - len(tokens))] for tokens in rest]
    minima = torch.tensor([len(tokens) + search.minimum_length for tokens in rest], device=device)
    return [
        Ban(tuple(range(EOS))),
        MinimumLength(minima),
        *rules,
        *sampling_rules(search),
        Prefix(torch.tensor(forced, dtype=torch.int64, device=device)),
    ]


def _choose(scores: Tensor, uniform: Tensor | None) -> Tensor:
    """A token of each row of (N, V), drawn with `uniform` numbers (N,) in [0, 1), or the likeliest: (N,)."""
    if uniform is None:
        return scores.argmax(1)
    cumulative = scores.softmax(1).cumsum(1, dtype=torch.float64)  # an impossible token does not raise it
    chosen = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
    return chosen.clamp(max=scores.shape[1] - 1)  # for rows without a possible token


def _uniform_numbers(seed: int, streams: Tensor, block: int) -> Tensor:
    """Random numbers in [0, 1) of each row's stream for a block of positions, (N, RANDOM_BLOCK)."""
    seeds = (np.random.SeedSequence(seed, spawn_key=(stream, block)) for stream in streams.tolist())
    numbers = [np.random.Generator(np.random.PCG64(sequence)).random(RANDOM_BLOCK) for sequence in seeds]
    return torch.from_numpy(np.stack(numbers)).to(streams.device)
