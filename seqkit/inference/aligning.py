"""What translation models looked at: attention by tokens, by words, and how much of a source it covered."""

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
LOOK = 1e-3  # a token that nothing looked at would cost everything: it costs what a thousandth of a look does

Pair = tuple[Sequence[int], Sequence[int]]  # the ids of a source and of its translation, without ends


class Aligner:
    """Several models with one text layer, whose attention is averaged, in forced passes over what was translated."""

    def __init__(self, models: Sequence[EncoderDecoder], codecs: Codecs, *, device: torch.device) -> None:
        """Models are on `device` and in evaluation mode."""
        self.models = models
        self.codecs = codecs
        self.device = device

    @property
    def sees(self) -> bool:
        """Whether every model attends."""
        return all(model.attends for model in self.models)

    @torch.no_grad()
    def weights(self, pairs: Sequence[Pair], *, layer: int | None = None, head: int | None = None) -> list[Tensor]:
        """Attention of each target token to each source token, (T, S) for each pair.

        `layer` and `head` are counted from 1, as people do. Raises ModelError if a model has no attention, ConfigError
        if it has no such layer or head.
        """
        layer, head = (None if each is None else each - 1 for each in (layer, head))
        read = pad([[*source, EOS] for source, _ in pairs]).to(self.device)
        inputs = pad([[BOS, *target[:-1]] for _, target in pairs]).to(self.device)
        found = [model.alignment(read, inputs.ids, layer=layer, head=head) for model in self.models]
        rows = torch.stack(found).mean(0)
        return [row[: len(target), : len(source)].float() for row, (source, target) in zip(rows, pairs, strict=True)]

    def coverage(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """The sum over a source's tokens of the logarithm of what they were looked at (Wu et al., 2016, equation 14).

        Not above zero; zero for an empty translation.
        """
        for first in range(0, len(pairs), ROWS):
            rows = pairs[first : first + ROWS]
            for (_, target), weights in zip(rows, self.weights(rows), strict=True):
                seen = weights.sum(0).clamp(min=LOOK, max=1.0).log().sum()
                yield float(seen) if target else 0.0

    def words(self, segments: Sequence[Pair], *, layer: int | None = None, head: int | None = None) -> Alignment:
        """Attention of words to words over all parts of a line; no word of one part looks at those of another."""
        source: list[str] = []
        target: list[str] = []
        weights: list[list[float]] = []
        for left, right in segments:
            if not left or not right:
                continue
            rows: list[list[float]] = self.weights([(left, right)], layer=layer, head=head)[0].tolist()
            one = merge_pieces(_pieces(self.codecs.source, left), _pieces(self.codecs.target, right), rows)
            weights = [[*row, *[0.0] * len(one.source)] for row in weights]
            weights += [[*[0.0] * len(source), *row] for row in one.weights]
            source += one.source
            target += one.target
        return Alignment(source, target, weights)

    def links(self, segments: Sequence[Pair]) -> tuple[tuple[int, int, float], ...]:
        """Each target word with the source word that it looked at most; nothing for a model without attention."""
        if not self.sees:
            return ()
        _, _, weights = self.words(segments)
        best = ((max(range(len(row)), key=row.__getitem__), place, row) for place, row in enumerate(weights))
        return tuple((source, place, round(row[source], 4)) for source, place, row in best)


def _pieces(codec: Codec, ids: Sequence[int]) -> list[str]:
    """Tokens as `merge_pieces` joins them to words: a mark stands where a word begins."""
    match codec.settings:
        case SentencePiece():
            return codec.tokens(ids)
        case Words():
            return [SPACE_MARK + codec.decode([id]) for id in ids]
        case _:
            return [token.replace(" ", SPACE_MARK) for token in codec.tokens(ids)]
