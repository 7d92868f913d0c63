"""What a model thinks of sequences that are already there: one forced pass, no search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.errors import DataError
from seqkit.search.hypothesis import BOS, EOS, rewarded
from seqkit.search.logits import log_normalisers
from seqkit.state import Decodable, select

__all__ = ["ForcedScore", "forced_scores"]


@dataclass(frozen=True)
class ForcedScore:
    """The probability of one given sequence, in nats."""

    log_probs: tuple[float, ...]  # one a token, </s> last
    log_prob: float  # their sum
    score: float  # log_prob after the length reward


@torch.no_grad()
def forced_scores(
    model: Decodable,
    source: Padded | None,
    targets: Sequence[Sequence[int]],
    *,
    length_reward: float = 1.0,
    positions: int = 1024,
) -> list[ForcedScore]:
    """The log-probabilities of `targets` (ids without `<s>` and `</s>`), each followed by `</s>`, by teacher forcing.

    With `source` (B, S), every sentence has the same number K of targets, adjacent: B * K in all; the source is encoded
    once. Logits exist for about `positions` target tokens at a time, padding included, and for one sentence at least.
    `length_reward` is that of `search.length_reward`.

    Raises DataError if the targets cannot be shared out among the sentences.
    """
    sentences = len(targets) if source is None else len(source.ids)
    if len(targets) % max(sentences, 1) or (sentences == 0 and targets):
        raise DataError(
            f"{len(targets)} targets cannot be shared out among {sentences} sentences",
            "give the same number of targets for every sentence, a sentence's own side by side",
        )
    if not targets:
        return []
    each = len(targets) // sentences
    device = None if source is None else source.ids.device
    memory, state = model.start(source)
    scored: list[ForcedScore] = []
    for begin, end in _spans([len(target) + 1 for target in targets], each, positions):
        chosen = torch.arange(begin, end, device=device)
        chunk = targets[begin * each : end * each]
        ends = pad([[*target, EOS] for target in chunk]).to(chosen.device)
        inputs = pad([[BOS, *target] for target in chunk]).to(chosen.device)
        rows = chosen.repeat_interleave(each)
        logits, _ = model.advance(inputs.ids, select(memory, chosen), select(state, rows))
        log_probs = _log_probs(logits, ends.ids).tolist()
        for target, values in zip(chunk, log_probs, strict=True):
            own = tuple(values[: len(target) + 1])
            scored.append(ForcedScore(own, sum(own), rewarded(sum(own), length=len(own), reward=length_reward)))
    return scored


def _spans(lengths: Sequence[int], each: int, positions: int) -> Iterator[tuple[int, int]]:
    """Cut sentences, `each` of whose targets stand side by side, where padded chunks reach `positions` tokens."""
    begin = longest = 0
    for sentence in range(len(lengths) // each):
        own = max(lengths[sentence * each : (sentence + 1) * each])
        if sentence > begin and max(longest, own) * each * (sentence + 1 - begin) > positions:
            yield begin, sentence
            begin, longest = sentence, 0
        longest = max(longest, own)
    yield begin, len(lengths) // each


def _log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities (N, T) of ids (N, T) under logits (N, T, V)."""
    flat = logits.float().flatten(0, 1)
    chosen = flat.gather(1, ids.reshape(-1, 1)).squeeze(1)
    return (chosen - log_normalisers(flat)).view_as(ids)
