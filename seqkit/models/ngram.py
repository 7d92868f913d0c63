"""Counted language models: interpolated modified Kneser-Ney and additive smoothing, as a `Decodable`.

All n-grams of all orders are the nodes of one tree. A token is the node of its own id; a longer n-gram is a child of
the n-gram without its last token. Nodes are numbered order by order, and in an order by parent, then by last token:

    order 1    0 ... V-1        node = token
    order 2    V ... V+M-1      key = parent * V + last token
    order 3    V+M ...          key = parent * V + last token

so the keys of all orders together ascend: one binary search finds a child, and the children of a node lie side by side.
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

NONE = 0  # the node of pad: nothing ever follows it and its back-off is 0, as for an n-gram that does not exist
NAMES = ("keys", "interpolated", "backoffs")
FALLBACK = (0.5, 1.0, 1.5)  # discounts where there are too few counts of counts to estimate them


class NGramModel(nn.Module):
    """Predicts a token from how often it followed the order - 1 tokens before it.

    The state holds the last order - 1 ids, (N, order - 1) int64, 0 where nothing was read. Logits are log-probabilities
    in nats: -inf for pad and <s>, finite for every other id. Nothing is trained: all tensors are buffers.
    """

    keys: Tensor  # (M,) int64, ascending; entry i is the key of node V + i
    interpolated: Tensor  # (V + M,) log-probability of a node's last token after the tokens before it
    backoffs: Tensor  # (V + M,) log of the share of lower orders after a node: for tokens that are not its children

    def __init__(self, settings: NGram, tensors: Mapping[str, Tensor], *, vocabulary: int) -> None:
        super().__init__()
        self.settings = settings
        self.vocabulary = vocabulary
        for name in NAMES:
            self.register_buffer(name, tensors[name])

    @classmethod
    def fit(cls, settings: NGram, sequences: Sequence[NDArray[np.int32]], *, vocabulary: int) -> Self:
        """Count sequences of ids, each (length,): without <s>, which goes before each, and with </s> where it belongs.

        A stream is one sequence; lines by themselves are one each. Numbers are kept in torch's default dtype.
        Raises DataError for no or an empty sequence, and for ids that cannot be predicted.
        """
        orders = _count(sequences, order=settings.order, vocabulary=vocabulary)
        smooth = _kneser_ney(orders) if settings.smoothing == "kneser_ney" else _additive(orders, settings)
        logs = [torch.from_numpy(np.log(part)).to(torch.get_default_dtype()) for part in smooth]
        logs[0][:EOS] = -torch.inf
        starts = np.cumsum([0] + [len(each.last) for each in orders])  # the first node of each order
        keys = [
            (start + each.parents) * vocabulary + each.last for start, each in zip(starts, orders[1:], strict=False)
        ]
        joined = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *keys]))
        return cls(settings, dict(zip(NAMES, (joined, *logs), strict=True)), vocabulary=vocabulary)

    @classmethod
    def from_tensors(cls, settings: NGram, tensors: Mapping[str, Tensor], *, vocabulary: int) -> Self:
        """The model that gave these `tensors()`. Raises ModelError when they do not belong together."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        keys = tensors["keys"].numel() if "keys" in tensors else 0
        nodes = (vocabulary + keys,)
        fits = shapes == {"keys": (keys,), "interpolated": nodes, "backoffs": nodes}
        if not fits or tensors["keys"].dtype != torch.int64 or (keys == 0) != (settings.order == 1):
            raise ModelError(
                f"these tensors are no {settings.order}-gram model of {vocabulary} tokens: {shapes}",
                "take tensors, settings and vocabulary from the same folder",
            )
        numbers = [tensors[name] for name in NAMES[1:]]
        if any(not each.is_floating_point() or bool(each.isnan().any()) for each in numbers):
            raise ModelError("the probabilities of this n-gram model are no numbers", "put a good copy back")
        order = tensors["keys"]
        if keys and (int(order[0]) < 0 or bool((order[1:] <= order[:-1]).any())):
            raise ModelError("the n-grams of this model are not in their order", "put a good copy back")
        return cls(settings, tensors, vocabulary=vocabulary)

    def tensors(self) -> dict[str, Tensor]:
        """All that the model knows, for a file of plain tensors."""
        return dict(self.named_buffers())

    @property
    def facts(self) -> dict[str, int]:
        """How many different n-grams there are of each order, for people; all predictable tokens count as 1-grams."""
        counts, first, end = {"1-grams": self.vocabulary - EOS}, self.vocabulary, self.vocabulary
        for order in range(2, self.settings.order + 1):
            first, end = end, self.vocabulary + int(torch.searchsorted(self.keys, end * self.vocabulary))
            counts[f"{order}-grams"] = end - first
        return counts

    def start(self, source: Padded | None) -> tuple[None, None]:
        """Nothing to remember and nothing read yet."""
        if source is not None:
            raise ModelError("a language model has no source", "give it text to go on from, or to score")
        return None, None

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> log-probabilities (N, T, V) and the new state; callers keep N * T * V within memory."""
        contexts, state = self._contexts(tokens, state)
        factors = self._factors(contexts, tokens.shape)
        logits = self.interpolated[: self.vocabulary] + factors[0].unsqueeze(2)  # (N, T, V)
        flat = logits.view(-1, self.vocabulary)
        for nodes, factor in zip(contexts, factors[1:], strict=True):  # longer contexts overwrite shorter ones
            begin, end = torch.searchsorted(self.keys, torch.stack([nodes, nodes + 1]).flatten(1) * self.vocabulary)
            counts = end - begin  # (N * T,) children of each context
            rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
            before = counts.cumsum(0) - counts
            children = torch.arange(len(rows), device=rows.device) + (begin - before)[rows]
            flat[rows, self.keys[children] % self.vocabulary] = (
                self.interpolated[self.vocabulary + children] + factor.flatten()[rows]
            )
        return Step(logits, state)

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """Read inputs (N, T) and look up what follows each, targets (N, T) -> log-probabilities (N, T), new state."""
        contexts, state = self._contexts(inputs, state)
        factors = self._factors(contexts, inputs.shape)
        found = self.interpolated[targets] + factors[0]
        for nodes, factor in zip(contexts, factors[1:], strict=True):
            children = self._child(nodes, targets)
            found = torch.where(children == NONE, found, self.interpolated[children] + factor)
        return LogProbs(found, state)

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
        if self.settings.smoothing == "additive":  # all of the context or nothing
            known = (ids != NONE).cumsum(1)[:, size:].clamp(max=size)
            contexts = [torch.where(known == length, nodes, NONE) for length, nodes in enumerate(contexts, start=1)]
        return contexts, ids[:, steps:]

    def _factors(self, contexts: list[Tensor], shape: torch.Size) -> Tensor:
        """What tokens lose that followed no context longer than 0, 1, ... order - 1 tokens: (order, N, T)."""
        factors = self.backoffs.new_zeros(len(contexts) + 1, *shape)
        for length in reversed(range(len(contexts))):
            factors[length] = factors[length + 1] + self.backoffs[contexts[length]]
        return factors

    def _child(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """The nodes of parents' n-grams with one more token, of any shape; NONE where it never followed."""
        wanted = parents * self.vocabulary + tokens
        places = torch.searchsorted(self.keys, wanted).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[places] == wanted, self.vocabulary + places, NONE)


class _Order(NamedTuple):
    """All different n-grams of one order, by parent, then by last token."""

    parents: Integers  # without the last token: its place in the order below
    last: Integers  # the last token
    suffixes: Integers  # without the first token: its place in the order below
    counts: Integers  # how often it stands in the text
    begins: NDArray[np.bool_]  # with <s>


def _count(sequences: Sequence[NDArray[np.int32]], *, order: int, vocabulary: int) -> list[_Order]:
    """The n-grams of each order, <s> before each sequence; orders that are longer than all sequences are left out."""
    sizes = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if not sizes.all() or not len(sizes):
        what = f"sequence {int(sizes.argmin()) + 1} of {len(sizes)} is empty" if len(sizes) else "there is no sequence"
        raise DataError(f"n-grams cannot be counted: {what}", "end each line with </s> (id 2), and leave nothing empty")
    ids = np.concatenate(sequences).astype(np.int64)
    if ids.min() < EOS or ids.max() >= vocabulary:
        what = f"ids from {ids.min()} to {ids.max()}, but {EOS} to {vocabulary - 1} can be predicted"
        raise DataError(f"the text has {what}", "encode it with the vocabulary of the model, without <s> and padding")
    starts = np.cumsum(sizes) - sizes
    text = np.insert(ids, starts, BOS)
    place = np.arange(len(text)) - np.repeat(starts + np.arange(len(sizes)), sizes + 1)  # in its sequence; <s> has 0
    tokens, none = np.arange(vocabulary), np.zeros(vocabulary, dtype=np.int64)
    orders = [_Order(none, tokens, none, np.bincount(ids, minlength=vocabulary), tokens == BOS)]
    nodes = text  # place of the n-gram that ends at each token in the order below
    for length in range(2, order + 1):
        ends = np.flatnonzero(place >= length - 1)
        if not len(ends):
            break
        keys = nodes[ends - 1] * vocabulary + text[ends]
        different, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        parents, last = np.divmod(different, vocabulary)
        orders.append(_Order(parents, last, nodes[ends[first]], counts, orders[-1].begins[parents]))
        nodes = np.zeros_like(text)
        nodes[ends] = inverse
    return orders


def _kneser_ney(orders: list[_Order]) -> tuple[Reals, Reals]:
    """Probabilities and shares of lower orders of all nodes (Chen and Goodman, 1999, section 3).

    Below the highest order an n-gram counts once for each different token before it, except after <s>, before which
    there is nothing.
    """
    lower = np.array([1 / (len(orders[0].last) - EOS)])  # before any token is known: uniform
    probabilities, shares = [], []
    for each, above in zip(orders, [*orders[1:], None], strict=True):
        counts = each.counts
        if above is not None:
            counts = np.where(each.begins, counts, np.bincount(above.suffixes, minlength=len(counts)))
        taken = _discounts(counts)[np.minimum(counts, 3)]
        totals = np.bincount(each.parents, counts, minlength=len(lower))
        taken_of_parents = np.bincount(each.parents, taken, minlength=len(lower))
        share = np.divide(taken_of_parents, totals, out=np.ones_like(totals), where=totals > 0)
        lower = (counts - taken) / totals[each.parents] + share[each.parents] * lower[each.suffixes]
        probabilities.append(lower)
        shares.append(share)
    return np.concatenate(probabilities), np.concatenate([*shares[1:], np.ones_like(lower)])


def _discounts(counts: Integers) -> Reals:
    """What is taken from counts of 0, 1, 2 and more (Chen and Goodman, 1999, equation 26); in (0, count]."""
    one, two, three, four = (int(number) for number in np.bincount(np.minimum(counts, 5), minlength=5)[1:5])
    if not (one and two and three and four):
        return np.array([0, *FALLBACK])
    once = one / (one + 2 * two)
    found = (once, 2 - 3 * once * three / two, 3 - 4 * once * four / three)
    return np.array([0, *(found if min(found) > 0 else FALLBACK)])


def _additive(orders: list[_Order], settings: NGram) -> tuple[Reals, Reals]:
    """Probabilities and shares of the uniform distribution of all nodes."""
    predictable = len(orders[0].last) - EOS
    added = settings.added * predictable
    probabilities, shares = [], []
    for length, each in enumerate(orders, start=1):
        totals = np.bincount(each.parents, each.counts, minlength=len(orders[length - 2].last) if length > 1 else 1)
        shares.append(added / (totals + added))
        if length == 1 < settings.order:
            probabilities.append(np.full(len(each.last), 1 / predictable))
        else:
            probabilities.append((each.counts + settings.added) / (totals + added)[each.parents])
    return np.concatenate(probabilities), np.concatenate([*shares[1:], np.ones(len(orders[-1].last))])
