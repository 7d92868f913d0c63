"""N-gram language models with interpolated modified Kneser-Ney or additive smoothing.

All n-grams of all orders are the nodes of one tree. A token is the node of its own id; a longer n-gram is a child of
the n-gram without its last token. Nodes are numbered order by order, and in an order by parent, then by last token:

    order 1    0 ... V-1        node = token
    order 2    V ... V+M-1      key = parent * V + last token
    order 3    V+M ...          key = parent * V + last token

so the keys of all orders together ascend: one binary search finds a child, and the children of a node are adjacent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.errors import DataError, ModelError
from seqkit.settings import NGram
from seqkit.state import LogProbs, Memory, State, Step
from seqkit.text.vocabulary import BOS, EOS

__all__ = ["NGramModel"]

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]

NO_NODE = (
    0  # the node of padding, which has no children and a log back-off of 0: stands for an n-gram that does not exist
)
TENSOR_NAMES = ("keys", "interpolated", "backoffs")
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # where there are too few counts of counts to estimate discounts


class NGramModel(nn.Module):
    """Predicts a token from the counts of the n-grams that end in it (Chen and Goodman, 1999).

    The state holds the last order - 1 ids, (N, order - 1) int64, 0 where nothing was read. Logits are log-probabilities
    in nats: -inf for padding and <s>, finite for every other id. Nothing is trained: all tensors are buffers.
    """

    keys: Tensor  # (M,) int64, ascending; entry i is the key of node V + i
    interpolated: Tensor  # (V + M,) log-probability of a node's last token after the tokens before it
    backoffs: Tensor  # (V + M,) log of the weight of the lower order after a node, for tokens that are not its children

    def __init__(self, settings: NGram, tensors: Mapping[str, Tensor], *, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        for name in TENSOR_NAMES:
            self.register_buffer(name, tensors[name])

    @classmethod
    def fit(cls, settings: NGram, sequences: Sequence[NDArray[np.int32]], *, vocabulary: int) -> Self:
        """The model of sequences of ids, each (length,): without <s>, which is added before each, and with </s>.

        A stream is one sequence; separate lines are one each. Probabilities have torch's default dtype. Raises
        DataError for no or an empty sequence, and for ids that cannot be predicted.
        """
        orders = _count(sequences, order=settings.order, vocabulary=vocabulary)
        estimates = _kneser_ney(orders) if settings.smoothing == "kneser_ney" else _additive(orders, settings)
        logs = [torch.from_numpy(np.log(values)).to(torch.get_default_dtype()) for values in estimates]
        logs[0][:EOS] = -torch.inf
        starts = np.cumsum([0] + [len(ngrams.last) for ngrams in orders])  # the first node of each order
        keys = [
            (start + ngrams.parents) * vocabulary + ngrams.last
            for start, ngrams in zip(starts, orders[1:], strict=False)
        ]
        all_keys = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *keys]))
        return cls(settings, dict(zip(TENSOR_NAMES, (all_keys, *logs), strict=True)), vocabulary=vocabulary)

    @classmethod
    def from_tensors(cls, settings: NGram, tensors: Mapping[str, Tensor], *, vocabulary: int) -> Self:
        """The model that these `tensors()` come from. Raises ModelError when they do not belong together."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        keys = tensors["keys"].numel() if "keys" in tensors else 0
        nodes = (vocabulary + keys,)
        fits = shapes == {"keys": (keys,), "interpolated": nodes, "backoffs": nodes}
        if not fits or tensors["keys"].dtype != torch.int64 or (keys == 0) != (settings.order == 1):
            raise ModelError(
                f"these tensors are no {settings.order}-gram model of {vocabulary} tokens: {shapes}",
                "take tensors, settings and vocabulary from the same folder",
            )
        floats = [tensors[name] for name in TENSOR_NAMES[1:]]
        if any(not tensor.is_floating_point() or bool(tensor.isnan().any()) for tensor in floats):
            raise ModelError("the probabilities of this n-gram model are no numbers", "put a good copy back")
        order = tensors["keys"]
        if keys and (int(order[0]) < 0 or bool((order[1:] <= order[:-1]).any())):
            raise ModelError("the n-grams of this model are not in their order", "put a good copy back")
        return cls(settings, tensors, vocabulary=vocabulary)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the model, by name."""
        return dict(self.named_buffers())

    @property
    def facts(self) -> dict[str, int]:
        """The number of distinct n-grams of each order, for a report; all predictable tokens count as 1-grams."""
        counts, first, end = {"1-grams": self.vocabulary - EOS}, self.vocabulary, self.vocabulary
        for order in range(2, self.settings.order + 1):
            first, end = end, self.vocabulary + int(torch.searchsorted(self.keys, end * self.vocabulary))
            counts[f"{order}-grams"] = end - first
        return counts

    def start(self, source: Padded | None) -> tuple[None, None]:
        """No memory, and the state before the first token."""
        if source is not None:
            raise ModelError("a language model has no source", "give it text to go on from, or to score")
        return None, None

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> log-probabilities (N, T, V) and the new state; callers keep N * T * V within memory."""
        contexts, state = self._contexts(tokens, state)
        backoff_sums = self._backoff_sums(contexts, tokens.shape)
        logits = self.interpolated[: self.vocabulary] + backoff_sums[0].unsqueeze(2)  # (N, T, V)
        flat = logits.view(-1, self.vocabulary)
        # Longer contexts overwrite shorter ones.
        for nodes, backoff_sum in zip(contexts, backoff_sums[1:], strict=True):
            begin, end = torch.searchsorted(self.keys, torch.stack([nodes, nodes + 1]).flatten(1) * self.vocabulary)
            counts = end - begin  # (N * T,) children of each context
            rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
            before = counts.cumsum(0) - counts
            children = torch.arange(len(rows), device=rows.device) + (begin - before)[rows]
            flat[rows, self.keys[children] % self.vocabulary] = (
                self.interpolated[self.vocabulary + children] + backoff_sum.flatten()[rows]
            )
        return Step(logits, state)

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """Read inputs (N, T) and look up what follows each, targets (N, T) -> log-probabilities (N, T), new state."""
        contexts, state = self._contexts(inputs, state)
        backoff_sums = self._backoff_sums(contexts, inputs.shape)
        log_probs = self.interpolated[targets] + backoff_sums[0]
        for nodes, backoff_sum in zip(contexts, backoff_sums[1:], strict=True):
            children = self._child(nodes, targets)
            log_probs = torch.where(children == NO_NODE, log_probs, self.interpolated[children] + backoff_sum)
        return LogProbs(log_probs, state)

    def _contexts(self, tokens: Tensor, state: State) -> tuple[list[Tensor], Tensor]:
        """The nodes of the last 1, 2, ... order - 1 ids at each position, (N, T) each, and the new state."""
        size, steps = self.settings.order - 1, tokens.shape[1]
        before = tokens.new_zeros(len(tokens), size) if state is None else state
        ids = torch.cat([before, tokens], dim=1)
        nodes = ids
        contexts = [nodes[:, size:]][:size]
        for length in range(1, size):
            nodes = self._child(nodes[:, :-1], ids[:, length:])
            contexts.append(nodes[:, -steps:])
        if self.settings.smoothing == "additive":  # the whole context or none of it
            lengths = (ids != NO_NODE).cumsum(1)[:, size:].clamp(max=size)
            contexts = [
                torch.where(lengths == length, nodes, NO_NODE) for length, nodes in enumerate(contexts, start=1)
            ]
        return contexts, ids[:, steps:]

    def _backoff_sums(self, contexts: list[Tensor], shape: torch.Size) -> Tensor:
        """The log back-off of tokens that follow no context longer than 0, 1, ... order - 1 tokens: (order, N, T)."""
        backoff_sums = self.backoffs.new_zeros(len(contexts) + 1, *shape)
        for length in reversed(range(len(contexts))):
            backoff_sums[length] = backoff_sums[length + 1] + self.backoffs[contexts[length]]
        return backoff_sums

    def _child(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """The children of `parents` by one more token, of any shape; NO_NODE where there is none."""
        keys = parents * self.vocabulary + tokens
        indices = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[indices] == keys, self.vocabulary + indices, NO_NODE)


class _NGrams(NamedTuple):
    """All distinct n-grams of one order, by parent, then by last token."""

    parents: Integers  # the n-gram without its last token, as an index of the order below
    last: Integers  # the last token
    suffixes: Integers  # the n-gram without its first token, as an index of the order below
    counts: Integers  # how often it occurs in the text
    starts_text: NDArray[np.bool_]  # whether it starts with <s>


def _count(sequences: Sequence[NDArray[np.int32]], *, order: int, vocabulary: int) -> list[_NGrams]:
    """The n-grams of each order, <s> before each sequence; orders that are longer than all sequences are left out."""
    sizes = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if not sizes.all() or not len(sizes):
        problem = (
            f"sequence {int(sizes.argmin()) + 1} of {len(sizes)} is empty" if len(sizes) else "there is no sequence"
        )
        raise DataError(
            f"n-grams cannot be counted: {problem}", "end each line with </s> (id 2), and leave nothing empty"
        )
    ids = np.concatenate(sequences).astype(np.int64)
    if ids.min() < EOS or ids.max() >= vocabulary:
        problem = f"ids from {ids.min()} to {ids.max()}, but {EOS} to {vocabulary - 1} can be predicted"
        raise DataError(
            f"the text has {problem}", "encode it with the vocabulary of the model, without <s> and padding"
        )
    starts = np.cumsum(sizes) - sizes
    text = np.insert(ids, starts, BOS)
    # The position of each token in its sequence; that of <s> is 0.
    positions = np.arange(len(text)) - np.repeat(starts + np.arange(len(sizes)), sizes + 1)
    tokens, none = np.arange(vocabulary), np.zeros(vocabulary, dtype=np.int64)
    orders = [_NGrams(none, tokens, none, np.bincount(ids, minlength=vocabulary), tokens == BOS)]
    nodes = text  # the n-gram of the order below that ends at each token, as an index
    for length in range(2, order + 1):
        ends = np.flatnonzero(positions >= length - 1)
        if not len(ends):
            break
        keys = nodes[ends - 1] * vocabulary + text[ends]
        distinct, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        parents, last = np.divmod(distinct, vocabulary)
        orders.append(_NGrams(parents, last, nodes[ends[first]], counts, orders[-1].starts_text[parents]))
        nodes = np.zeros_like(text)
        nodes[ends] = inverse
    return orders


def _kneser_ney(orders: list[_NGrams]) -> tuple[Reals, Reals]:
    """Probabilities and weights of the lower order of all nodes (Chen and Goodman, 1999, section 3).

    Below the highest order an n-gram counts once for each different token before it, except after <s>, before which
    there is nothing.
    """
    lower = np.array([1 / (len(orders[0].last) - EOS)])  # before any token is known: uniform
    probabilities, backoffs = [], []
    for ngrams, higher in zip(orders, [*orders[1:], None], strict=True):
        counts = ngrams.counts
        if higher is not None:
            counts = np.where(ngrams.starts_text, counts, np.bincount(higher.suffixes, minlength=len(counts)))
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(ngrams.parents, counts, minlength=len(lower))
        discount_sums = np.bincount(ngrams.parents, discounts, minlength=len(lower))
        backoff = np.divide(discount_sums, totals, out=np.ones_like(totals), where=totals > 0)
        lower = (counts - discounts) / totals[ngrams.parents] + backoff[ngrams.parents] * lower[ngrams.suffixes]
        probabilities.append(lower)
        backoffs.append(backoff)
    return np.concatenate(probabilities), np.concatenate([*backoffs[1:], np.ones_like(lower)])


def _discounts(counts: Integers) -> Reals:
    """The discounts of counts of 0, 1, 2 and more, in (0, count] (Chen and Goodman, 1999, equation 26)."""
    n1, n2, n3, n4 = (int(number) for number in np.bincount(np.minimum(counts, 5), minlength=5)[1:5])
    if not (n1 and n2 and n3 and n4):
        return np.array([0, *FALLBACK_DISCOUNTS])
    y = n1 / (n1 + 2 * n2)
    discounts = (y, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return np.array([0, *(discounts if min(discounts) > 0 else FALLBACK_DISCOUNTS)])


def _additive(orders: list[_NGrams], settings: NGram) -> tuple[Reals, Reals]:
    """Probabilities and weights of the uniform distribution of all nodes, by additive smoothing."""
    predictable = len(orders[0].last) - EOS
    added = settings.added * predictable
    probabilities, backoffs = [], []
    for length, ngrams in enumerate(orders, start=1):
        totals = np.bincount(ngrams.parents, ngrams.counts, minlength=len(orders[length - 2].last) if length > 1 else 1)
        backoffs.append(added / (totals + added))
        if length == 1 < settings.order:
            probabilities.append(np.full(len(ngrams.last), 1 / predictable))
        else:
            probabilities.append((ngrams.counts + settings.added) / (totals + added)[ngrams.parents])
    return np.concatenate(probabilities), np.concatenate([*backoffs[1:], np.ones(len(orders[-1].last))])
