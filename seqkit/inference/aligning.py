"""Attention of translation models: by tokens, by words, and how much of the source it covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seqkit.batch import pad
from seqkit.inference.heat_map import Alignment, merge_pieces
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import SentencePiece, Words
from seqkit.text.codec import Codec, Codecs
from seqkit.text.tokenizers import SPACE_MARK
from seqkit.text.vocabulary import BOS, EOS

__all__ = ["Aligner", "Pair"]

ROWS = 64  # pairs that are read together
LEAST_ATTENTION = 1e-3  # what a source token counts as at least: the logarithm of 0 would rule a translation out

Pair = tuple[Sequence[int], Sequence[int]]  # the ids of a source and of its translation, without ends


class Aligner:
    """The mean attention of several models with one text layer, found by forced passes over given translations."""

    def __init__(self, models: Sequence[EncoderDecoder], codecs: Codecs, *, device: torch.device) -> None:
        """Models are on `device` and in evaluation mode."""
        self.models = models
        self.codecs = codecs
        self.device = device

    @property
    def attends(self) -> bool:
        """Whether every model has attention."""
        return all(model.attends for model in self.models)

    @torch.no_grad()
    def weights(self, pairs: Sequence[Pair], *, layer: int | None = None, head: int | None = None) -> list[Tensor]:
        """Attention of each target token to each source token, (T, S) for each pair.

        `layer` and `head` are counted from 1. Raises ModelError if a model has no attention, ConfigError
        if it has no such layer or head.
        """
        layer, head = (None if number is None else number - 1 for number in (layer, head))
        sources = pad([[*source, EOS] for source, _ in pairs]).to(self.device)
        inputs = pad([[BOS, *target[:-1]] for _, target in pairs]).to(self.device)
        alignments = [model.alignment(sources, inputs.ids, layer=layer, head=head) for model in self.models]
        rows = torch.stack(alignments).mean(0)
        return [row[: len(target), : len(source)].float() for row, (source, target) in zip(rows, pairs, strict=True)]

    def coverage(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """The sum over source tokens of the log of the attention that each received (Wu et al., 2016, equation 14).

        Not above zero; zero for an empty translation.
        """
        for first in range(0, len(pairs), ROWS):
            rows = pairs[first : first + ROWS]
            for (_, target), weights in zip(rows, self.weights(rows), strict=True):
                coverage = weights.sum(0).clamp(min=LEAST_ATTENTION, max=1.0).log().sum()
                yield float(coverage) if target else 0.0

    def words(self, segments: Sequence[Pair], *, layer: int | None = None, head: int | None = None) -> Alignment:
        """Attention of words to words over all parts of a line; zero between words of different parts."""
        source: list[str] = []
        target: list[str] = []
        weights: list[list[float]] = []
        for left, right in segments:
            if not left or not right:
                continue
            rows: list[list[float]] = self.weights([(left, right)], layer=layer, head=head)[0].tolist()
            part = merge_pieces(
                _marked_tokens(self.codecs.source, left), _marked_tokens(self.codecs.target, right), rows
            )
            weights = [[*row, *[0.0] * len(part.source)] for row in weights]
            weights += [[*[0.0] * len(source), *row] for row in part.weights]
            source += part.source
            target += part.target
        return Alignment(source, target, weights)

    def links(self, segments: Sequence[Pair]) -> tuple[tuple[int, int, float], ...]:
        """Each target word with the source word that it attends to most; nothing for a model without attention."""
        if not self.attends:
            return ()
        _, _, weights = self.words(segments)
        best = ((max(range(len(row)), key=row.__getitem__), target, row) for target, row in enumerate(weights))
        return tuple((source, target, round(row[source], 4)) for source, target, row in best)


def _marked_tokens(codec: Codec, ids: Sequence[int]) -> list[str]:
    """Tokens for `merge_pieces`, which joins them to words: a mark stands where a word begins."""
    match codec.settings:
        case SentencePiece():
            return codec.tokens(ids)
        case Words():
            return [SPACE_MARK + codec.decode([id]) for id in ids]
        case _:
            return [token.replace(" ", SPACE_MARK) for token in codec.tokens(ids)]
