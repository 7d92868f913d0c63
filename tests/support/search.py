"""Toy models whose best sequences are known, and an exhaustive search over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.search.hypothesis import BOS, EOS
from seqkit.state import Memory, State, Step


class Table:
    """The next token depends on the last one only: a (V, V) matrix of probabilities."""

    def __init__(self, probabilities: Tensor) -> None:
        self.logits = probabilities.log()

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return None, None

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        return Step(self.logits[tokens], None)


class Past(NamedTuple):
    """The state of `Recurrent`, with the kinds of parts a state may have."""

    hidden: Tensor  # (N, D)
    layers: tuple[Tensor, None]  # (N, 1) tokens read
    steps: int


class Recurrent:
    """A random recurrent network: logits depend on every token read and on the source, so that every wrong selection
    of state or memory changes them. Hypotheses of a sentence are folded onto its row of the memory."""

    def __init__(self, *, size: int, seed: int, begins: bool = True, end_bias: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.embedding = torch.randn(size, 8, generator=generator)
        self.recurrent = torch.randn(8, 8, generator=generator) / 2
        self.output = torch.randn(8, size, generator=generator)
        self.end_bias = end_bias
        self.begins = begins  # whether `start` already makes a state
        self.rows_advanced = 0
        self.calls: list[int] = []  # the tokens that each call of `advance` read

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        if source is None:
            return None, None
        weights = source.mask[..., None] / torch.arange(1, source.ids.shape[1] + 1)[:, None]
        summary = (self.embedding[source.ids] * weights).sum(1)
        return (summary, source.mask.sum(1)), self.beginning(summary.tanh()) if self.begins else None

    def beginning(self, hidden: Tensor) -> Past:
        return Past(hidden, (torch.zeros(len(hidden), 1), None), 0)

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        rows = len(tokens)
        self.rows_advanced += rows
        self.calls.append(tokens.numel())
        past: Past = self.beginning(torch.zeros(rows, 8)) if state is None else state
        hidden, count = past.hidden, past.layers[0]
        context = torch.zeros(rows, 8) if memory is None else memory[0].repeat_interleave(rows // len(memory[0]), 0)
        logits = []
        for column in tokens.unbind(1):
            hidden = torch.tanh(self.embedding[column] + hidden @ self.recurrent + context)
            count = count + 1
            logits.append(hidden @ self.output)
            logits[-1][:, EOS] += self.end_bias
        return Step(torch.stack(logits, 1), Past(hidden, (count, None), past.steps + tokens.shape[1]))


def sources(lengths: list[int], *, size: int, seed: int = 0) -> Padded:
    """Random source sentences of these lengths, `</s>` included."""
    generator = torch.Generator().manual_seed(seed)
    return pad([[*torch.randint(3, size, (n - 1,), generator=generator).tolist(), EOS] for n in lengths])


def probabilities(rows: dict[int, dict[int, float]], *, size: int) -> Tensor:
    """A table from its non-zero entries."""
    table = torch.zeros(size, size)
    for last, nexts in rows.items():
        for token, probability in nexts.items():
            table[last, token] = probability
    return table


def random_table(size: int, seed: int) -> Tensor:
    """A table in which no entry is zero."""
    return torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).mul(1.5).softmax(1)


def exhaustive(table: Tensor, *, maximum: int, minimum: int, reward: float) -> list[tuple[tuple[int, ...], float]]:
    """Every finished sequence of at most `maximum` tokens (`</s>` included) with its score, best first."""
    log_p = table.double().log()
    tokens = range(EOS + 1, len(table))

    def sequences(last: int, ids: tuple[int, ...], total: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(ids) >= minimum:
            yield ids, float(total + log_p[last, EOS]) / (len(ids) + 1) ** reward
        if len(ids) + 1 < maximum:
            for token in tokens:
                yield from sequences(token, (*ids, token), float(total + log_p[last, token]))

    return sorted(sequences(BOS, (), 0.0), key=lambda found: -found[1])
