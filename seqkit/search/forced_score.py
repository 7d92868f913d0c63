"""The log-probabilities that a model gives to given sequences, by one pass of teacher forcing without search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.errors import DataError
from seqkit.search.hypothesis import BOS, EOS, length_normalised
from seqkit.search.logits import log_normalisers
from seqkit.state import Decodable, select

__all__ = ["ForcedScore", "forced_scores"]


@dataclass(frozen=True)
class ForcedScore:
    """The probability of one given sequence, in nats."""

    log_probs: tuple[float, ...]  # one a token, </s> last
    log_prob: float  # their sum
    score: float  # log_prob after length normalisation


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

    Raises DataError if the number of targets is no multiple of the number of sentences.
    """
    sentences = len(targets) if source is None else len(source.ids)
    if len(targets) % max(sentences, 1) or (sentences == 0 and targets):
        raise DataError(
            f"{len(targets)} targets cannot be shared out among {sentences} sentences",
            "give the same number of targets for every sentence, a sentence's own side by side",
        )
    if not targets:
        return []
    per_sentence = len(targets) // sentences
    device = None if source is None else source.ids.device
    memory, state = model.start(source)
    scores: list[ForcedScore] = []
    for begin, end in _spans([len(target) + 1 for target in targets], per_sentence, positions):
        indices = torch.arange(begin, end, device=device)
        chunk = targets[begin * per_sentence : end * per_sentence]
        outputs = pad([[*target, EOS] for target in chunk]).to(indices.device)
        inputs = pad([[BOS, *target] for target in chunk]).to(indices.device)
        rows = indices.repeat_interleave(per_sentence)
        logits, _ = model.advance(inputs.ids, select(memory, indices), select(state, rows))
        chunk_log_probs = _log_probs(logits, outputs.ids).tolist()
        for target, values in zip(chunk, chunk_log_probs, strict=True):
            log_probs = tuple(values[: len(target) + 1])
            log_prob = sum(log_probs)
            score = length_normalised(log_prob, length=len(log_probs), reward=length_reward)
            scores.append(ForcedScore(log_probs, log_prob, score))
    return scores


def _spans(lengths: Sequence[int], per_sentence: int, positions: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 sentence of each chunk: as many as keep its padded targets within `positions` tokens.

    `lengths` are those of the targets, of which `per_sentence` adjacent ones belong to a sentence.
    """
    begin = longest = 0
    for sentence in range(len(lengths) // per_sentence):
        length = max(lengths[sentence * per_sentence : (sentence + 1) * per_sentence])
        if sentence > begin and max(longest, length) * per_sentence * (sentence + 1 - begin) > positions:
            yield begin, sentence
            begin, longest = sentence, 0
        longest = max(longest, length)
    yield begin, len(lengths) // per_sentence


def _log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities (N, T) of ids (N, T) under logits (N, T, V)."""
    flat = logits.float().flatten(0, 1)
    chosen = flat.gather(1, ids.reshape(-1, 1)).squeeze(1)
    return (chosen - log_normalisers(flat)).view_as(ids)
