"""Text in, text out: a trained model as a function from lines to translations.

    translator = Translator.load("runs/en-de")
    for translation in translator.translate(lines):
        print(translation.text)

As many translations come out as lines went in, in their order; sorting, batching and cutting are private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from seqkit.batch import pad
from seqkit.decoding import search_many
from seqkit.errors import ModelError
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.report import Alignment, merge_pieces
from seqkit.run import Loaded, device_of, load
from seqkit.search.hypothesis import Hypothesis
from seqkit.settings import Labelled, Pairs, Recipe, Search, SentencePiece, Transformer, Words
from seqkit.text.codec import Codec
from seqkit.text.tokenizers import SPACE_MARK
from seqkit.text.vocabulary import BOS, EOS, UNKNOWN

__all__ = ["WINDOW", "Translation", "Translator"]

WINDOW = 2000  # lines that are sorted by length together, and the most that are kept waiting for each other


@dataclass(frozen=True)
class Translation:
    """One line and what became of it. A blank line becomes an empty text, which no model was asked for."""

    source: str  # as it came
    text: str  # the best translation
    score: float  # log_prob after the length reward
    log_prob: float  # of `target_ids` and their `</s>`, in nats
    truncated: bool  # the output reached the length limit before it ended
    cut: bool  # the input was longer than the model takes: only its beginning was translated
    unknown: int  # source tokens that the vocabulary does not have
    alternatives: tuple[tuple[str, float], ...]  # what was found besides, best first: text and score
    source_ids: tuple[int, ...]  # what the model read and wrote, both without `</s>`
    target_ids: tuple[int, ...]


class Translator:
    """A trained model with its text layers, ready to translate."""

    def __init__(self, loaded: Loaded, *, device: torch.device) -> None:
        """`loaded.model` is on `device` and in evaluation mode, as `run.load` gives it.

        Raises ModelError if it does not translate.
        """
        model, data = loaded.model, loaded.recipe.data
        if not isinstance(model, EncoderDecoder) or not isinstance(data, Pairs):
            other = "label" if isinstance(data, Labelled) else "generate"
            raise ModelError(f"{loaded.path} holds no translation model", f"seqkit {other} {loaded.path} uses it")
        self.loaded, self.model, self.data = loaded, model, data
        self.device = device
        self.recipe = loaded.recipe
        self.limit = _limit(loaded.recipe, data)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Translator:
        """Read a run folder, whose best checkpoint is taken, or a `model/` folder.

        Raises ModelError when there is no sound model, ConfigError for a device that is not there.
        """
        place = device_of(device)
        return cls(load(Path(path), device=place), device=place)

    @property
    def name(self) -> str:
        """Which languages it translates: `en-de`."""
        return f"{self.data.source}-{self.data.target}"

    @property
    def description(self) -> str:
        """The model in a line: `en-de  transformer 1.2 M  step 1400  dev BLEU 33.20  cpu`."""
        size = sum(parameter.numel() for parameter in self.loaded.model.parameters())
        kind = type(self.recipe.model).__name__.lower()
        facts = self.loaded.facts
        parts = [self.name, f"{kind} {size / 1e6:.1f} M", f"step {facts.get('step')}"]
        if isinstance(score := facts.get("score"), float):
            metric = {"bleu": "BLEU", "chrf": "chrF"}.get(str(facts.get("metric")), str(facts.get("metric")))
            parts.append(f"dev {metric} {score:.2f}")
        return "  ".join([*parts, str(self.device)])

    def translate(self, lines: Iterable[str], *, search: Search | None = None) -> Iterator[Translation]:
        """Translate lines, window by window, with the recipe's search settings or others.

        What a line becomes does not depend on its neighbours. Raises ConfigError for settings that cannot be met.
        """
        waiting = iter(lines)
        while window := list(islice(waiting, WINDOW)):
            yield from self._translate_window(window, search or self.recipe.search)

    def align(self, source: str, target: str | Translation) -> Alignment:
        """How strongly each word of a translation attended to each word of its source, in one forced pass.

        `target` is any text, or what `translate` gave for this source. Raises ModelError if the model has no attention.
        """
        codecs = self.loaded.codecs
        left = codecs.source.encode(source)[: self.limit]
        right = codecs.target.encode(target) if isinstance(target, str) else list(target.target_ids)
        if not left or not right:
            return Alignment([], [], [])
        read = pad([[*left, EOS]]).to(self.device)
        inputs = pad([[BOS, *right[:-1]]]).to(self.device)
        with torch.no_grad():
            weights = self.model.alignment(read, inputs.ids)[0, :, : len(left)]  # (T, S)
        rows: list[list[float]] = weights.float().tolist()
        return merge_pieces(_pieces(codecs.source, left), _pieces(codecs.target, right), rows)

    def _translate_window(self, lines: Sequence[str], search: Search) -> Iterator[Translation]:
        encoded = self.loaded.codecs.source.encode_many(["" if _blank(line) else line for line in lines])
        sources = [ids[: self.limit] for ids in encoded]
        found = search_many(self.model, sources, search, device=self.device)
        for line, ids, source, hypotheses in zip(lines, encoded, sources, found, strict=True):
            yield self._translation(line, source, hypotheses, cut=len(source) < len(ids))

    def _translation(self, line: str, ids: list[int], found: Sequence[Hypothesis], *, cut: bool) -> Translation:
        if not found:
            return Translation(line, "", 0.0, 0.0, False, False, 0, (), (), ())
        decode = self.loaded.codecs.target.decode
        best, *others = found
        return Translation(
            source=line,
            text=decode(best.ids),
            score=best.score,
            log_prob=best.log_prob,
            truncated=not best.finished,
            cut=cut,
            unknown=ids.count(UNKNOWN),
            alternatives=tuple((decode(other.ids), other.score) for other in others),
            source_ids=tuple(ids),
            target_ids=best.ids,
        )


def _blank(line: str) -> bool:
    return not line or line.isspace()


def _limit(recipe: Recipe, data: Pairs) -> int:
    """The longest source in tokens: twice what was trained on, as far as there are positions for it and `</s>`."""
    limit = 2 * data.maximum_length
    model = recipe.model
    if isinstance(model, Transformer) and model.positions == "learned":
        limit = min(limit, model.maximum_positions - 1)
    return max(limit, 1)


def _pieces(codec: Codec, ids: Sequence[int]) -> list[str]:
    """Tokens as `merge_pieces` joins them to words: a mark stands where a word begins."""
    match codec.settings:
        case SentencePiece():
            return codec.tokens(ids)
        case Words():
            return [SPACE_MARK + codec.decode([id]) for id in ids]
        case _:
            return [token.replace(" ", SPACE_MARK) for token in codec.tokens(ids)]
