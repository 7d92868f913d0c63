"""Text in, text out: a trained model, or several as one, as a function from lines to translations.

    >>> import seqkit
    >>> translator = seqkit.load(run)  # a run folder, or several
    >>> for translation in translator.translate(["h a t", "", "m a t e"], beam=4):
    ...     print(repr(translation.text), translation.parts)
    '...' 1
    '' 0
    '...' 1
    >>> [best] = translator.translate(["h a t"], nbest=2, explain=True)
    >>> len(best.alternatives), len(best.token_scores) == len(best.target_ids) + 1
    (1, True)
    >>> [scored] = translator.score(["h a t"], [best.text])
    >>> abs(scored.log_prob - best.log_prob) < 1e-3
    True
    >>> [found] = translator.translate(["h a t"], glossary=Glossary({"h": ("q r",)}))
    >>> "q r" in found.text, found.missing
    (True, ())

As many translations come out as lines went in, in their order; sorting, batching and cutting are private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from seqkit.batch import pad
from seqkit.engine.batch_search import BatchSearch
from seqkit.engine.search_engine import Constraints, SearchEngine
from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.inference.aligning import Aligner, Pair
from seqkit.inference.glossary import Glossary, Term, bounds, missing, protected, spelt
from seqkit.inference.heat_map import Alignment
from seqkit.inference.mixing import check_same_tokens
from seqkit.inference.translation import Line, Translation
from seqkit.metrics.bleu import utilities
from seqkit.models.ensemble import Ensemble
from seqkit.models.language_model import LanguageModel
from seqkit.models.ngram import NGramModel
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.search.forced_score import ForcedScore, forced_scores
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.minimum_risk import expected_utilities
from seqkit.search.rules import BanPhrases, Fusion, Rule
from seqkit.settings import Labelled, Pairs, Recipe, Search, Stream, Transformer
from seqkit.state import Decodable
from seqkit.system.device import device_of
from seqkit.text.sentences import parts
from seqkit.text.vocabulary import BOS, EOS

__all__ = ["WINDOW", "Translator"]

ROWS = 64  # hypotheses that are looked at together after the search
WINDOW = 2000  # lines that are sorted by length together, and the most that are kept waiting for each other


class Translator:
    """Trained models with their text layer, ready to translate; several are averaged token by token."""

    def __init__(
        self, loaded: TrainedModel, *others: TrainedModel, device: torch.device, engine: SearchEngine | None = None
    ) -> None:
        """Models are on `device` and in evaluation mode, as `trained_model.load` gives them; settings are those of the
        first. Translations are looked for by `engine` (None: the package's own search).

        Raises ModelError if one does not translate or has other tokens than the first.
        """
        self.models = [_translates(each) for each in (loaded, *others)]
        check_same_tokens([loaded, *others])
        self.loaded, self.recipe = loaded, loaded.recipe
        self.data = _pairs(loaded)
        self.model: Decodable = self.models[0] if not others else Ensemble(self.models)
        self.engine: SearchEngine = engine or BatchSearch(self.model, device=device)
        self.device = device
        self.aligner = Aligner(self.models, loaded.codecs, device=device)
        self.limit = min(_limit(each.recipe) for each in (loaded, *others))
        self._bounds = bounds(loaded.codecs.target)
        self._helpers: dict[str, TrainedModel] = {}  # language models by path

    @classmethod
    def load(cls, path: str | Path, *others: str | Path, device: str = "auto") -> Translator:
        """Read run folders, whose best checkpoints are taken, or `model/` folders; several become an ensemble.

        Raises ModelError when there is no sound model, ConfigError for a device that is not there.
        """
        place = device_of(device)
        return cls(*(load(Path(each), device=place) for each in (path, *others)), device=place)

    @property
    def name(self) -> str:
        """Which languages it translates: `en-de`."""
        return f"{self.data.source}-{self.data.target}"

    @property
    def description(self) -> str:
        """The model in a line: `en-de  transformer 1.2 M  step 1400  dev BLEU 33.20  cpu`."""
        size = sum(parameter.numel() for model in self.models for parameter in model.parameters())
        kind = type(self.recipe.model).__name__.lower()
        if len(self.models) > 1:
            return "  ".join([self.name, f"{len(self.models)} models, {size / 1e6:.1f} M", str(self.device)])
        facts = self.loaded.facts
        shown = [self.name, f"{kind} {size / 1e6:.1f} M", f"step {facts.get('step')}"]
        if isinstance(found := facts.get("score"), float):
            metric = {"bleu": "BLEU", "chrf": "chrF"}.get(str(facts.get("metric")), str(facts.get("metric")))
            shown.append(f"dev {metric} {found:.2f}")
        return "  ".join([*shown, str(self.device)])

    def translate(
        self,
        lines: Iterable[str | Line],
        *,
        search: Search | None = None,
        beam: int | None = None,
        nbest: int | None = None,
        glossary: Glossary | None = None,
        protect: bool = False,
        explain: bool = False,
    ) -> Iterator[Translation]:
        """Translate lines, window by window, with the recipe's search settings or others.

        With a glossary, where a source has one of its terms the translation has one of its forms; `protect` asks the
        same of web and mail addresses, placeholders and numbers, as they are. What cannot be had is named in `missing`.
        `explain` adds token scores and word alignment. What a line becomes does not depend on its neighbours. Raises
        ConfigError for settings that cannot be met, ModelError for a coverage penalty without attention.
        """
        search = search or self.recipe.search
        changes = {"beam": beam, "nbest": nbest}
        search = msgspec.structs.replace(search, **{key: n for key, n in changes.items() if n is not None})
        request = _Request(search, glossary, protect, explain, tuple(self._rules(search)))
        waiting = iter(lines)
        while window := list(islice(waiting, WINDOW)):
            yield from self._window([Line(each) if isinstance(each, str) else each for each in window], request)

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[ForcedScore]:
        """The log-probability of each target given its source, token by token, in nats, ends included.

        Raises DataError unless there are as many of one as of the other.
        """
        if len(sources) != len(targets):
            raise DataError(f"{len(sources)} sources, but {len(targets)} targets", "give a target for each source")
        codecs = self.loaded.codecs
        pairs = zip(codecs.source.encode_many(sources), codecs.target.encode_many(targets), strict=True)
        return self._scored([(ids, written) for ids, written in pairs])

    def align(
        self, source: str, target: str | Translation, *, layer: int | None = None, head: int | None = None
    ) -> Alignment:
        """How strongly each word of a translation attended to each word of its source, in one forced pass.

        `target` is any text, or what `translate` gave for this source. `layer` and `head` of a Transformer's attention
        are counted from 1; without them it is the mean of all heads of the last layer but one. Raises ModelError if the
        model has no attention, ConfigError if it has no such layer or head.
        """
        segments: Sequence[Pair]
        if isinstance(target, Translation):
            segments = target.segments
        else:
            codecs = self.loaded.codecs
            segments = [(codecs.source.encode(source)[: self.limit], codecs.target.encode(target))]
        return self.aligner.words(segments, layer=layer, head=head)

    def _rules(self, search: Search) -> Iterator[Rule]:
        codec = self.loaded.codecs.target
        if phrases := [tuple(codec.encode(phrase)) for phrase in search.ban]:
            for phrase, ids in zip(search.ban, phrases, strict=True):
                if not ids:
                    raise ConfigError(f"search.ban has {phrase!r}, which is nothing", "name words or phrases")
            yield BanPhrases(tuple(phrases))
        if search.language_model is not None:
            yield self._fusion(search.language_model, search.language_model_weight)

    def _fusion(self, path: str, weight: float) -> Fusion:
        """The rule that a language model has a say."""
        if path not in self._helpers:
            self._helpers[path] = load(Path(path), device=self.device)
        loaded = self._helpers[path]
        if not isinstance(loaded.model, LanguageModel | NGramModel):
            raise ModelError(f"{path} holds no language model", "search.language_model is the run of one")
        check_same_tokens([self.loaded, loaded])
        begin = EOS if isinstance(loaded.recipe.data, Stream) else BOS  # the lines of a stream follow each other
        return Fusion(loaded.model, weight, (begin,), self.device)

    def _window(self, lines: Sequence[Line], request: _Request) -> Iterator[Translation]:
        codecs, search = self.loaded.codecs, request.search
        pieces = self._pieces([line.text for line in lines])  # of each line its parts, as text and ids
        flat = [
            _Piece(line, text, ids, "" if place else line.prefix)
            for line, own in zip(lines, pieces, strict=True)
            for place, (text, ids) in enumerate(own)
        ]
        asked = [request.terms(piece.line, piece.text) for piece in flat]
        written = [spelt(codecs.target, terms) for terms in asked]
        prefixes = [codecs.target.encode(piece.prefix) if piece.prefix else [] for piece in flat]
        wishes = Constraints(
            prefixes=prefixes if any(prefixes) else None,
            terms=[forms for forms, _ in written] if any(forms for forms, _ in written) else None,
            bounds=self._bounds,
            rules=request.rules,
        )
        sources = [piece.ids for piece in flat]
        found = self.engine.search(sources, request.searched, wishes)
        if search.coverage_penalty:
            found = self._covered(sources, found, search)
        chosen = [
            _Part(tuple(ids), self._ranked(hypotheses, terms, search), terms)
            for ids, hypotheses, terms in zip(sources, found, asked, strict=True)
        ]
        scores = self._scored([(part.ids, part.best.ids) for part in chosen]) if request.explain else []
        begin = 0
        for line, own in zip(lines, pieces, strict=True):
            end = begin + len(own)
            yield self._joined(line.text, chosen[begin:end], scores[begin:end], request)
            begin = end

    def _pieces(self, texts: Sequence[str]) -> list[list[tuple[str, list[int]]]]:
        """Each text with its ids; a blank one is nothing, and one that is too long comes in parts."""
        codec = self.loaded.codecs.source
        encoded = codec.encode_many(["" if _blank(text) else text for text in texts])
        found: list[list[tuple[str, list[int]]]] = []
        for text, ids in zip(texts, encoded, strict=True):
            cut = [text] if len(ids) <= self.limit else parts(text, size=self._size, limit=self.limit)
            whole = [(text, ids)] if len(cut) == 1 else [(part, codec.encode(part)) for part in cut]
            found.append([(part, own[: self.limit]) for part, own in whole if own])
        return found

    def _size(self, text: str) -> int:
        return len(self.loaded.codecs.source.encode(text))

    def _ranked(self, found: Sequence[Hypothesis], terms: Sequence[Term], search: Search) -> list[Hypothesis]:
        """Hypotheses best first: those with more terms in their text before others."""
        decode = self.loaded.codecs.target.decode
        ranked = list(found)
        if search.method == "minimum_risk":
            texts = [decode(each.ids) for each in ranked]

            def compare(text: str, references: Sequence[str]) -> list[float]:
                return utilities(text, references, utility=search.utility)

            values = dict(zip(texts, expected_utilities(texts, compare), strict=True))
            distinct = dict(zip(reversed(texts), reversed(ranked), strict=True))
            ranked = [replace(distinct[text], score=values[text]) for text in sorted(values, key=values.__getitem__)]
            ranked.reverse()
        if terms:
            ranked.sort(key=lambda each: len(missing(decode(each.ids), terms)))
        return ranked[: search.nbest]

    def _covered(
        self, sources: Sequence[Sequence[int]], found: Sequence[Sequence[Hypothesis]], search: Search
    ) -> list[list[Hypothesis]]:
        """N-best lists in the order of their scores and coverage (Wu et al., 2016, equation 14)."""
        flat = [(index, each) for index, hypotheses in enumerate(found) for each in hypotheses]
        covered = self.aligner.coverage([(sources[index], each.ids) for index, each in flat])
        new: list[list[Hypothesis]] = [[] for _ in sources]
        for (index, each), seen in zip(flat, covered, strict=True):
            new[index].append(replace(each, score=each.score + search.coverage_penalty * seen))
        return [sorted(hypotheses, key=lambda each: (not each.finished, -each.score)) for hypotheses in new]

    def _scored(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[ForcedScore]:
        """The forced scores of target ids given source ids, in batches of similar length."""
        order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]))
        found: dict[int, ForcedScore] = {}
        for first in range(0, len(order), ROWS):
            rows = order[first : first + ROWS]
            source = pad([[*pairs[index][0], EOS] for index in rows]).to(self.device)
            values = forced_scores(self.model, source, [list(pairs[index][1]) for index in rows])
            found.update(zip(rows, values, strict=True))
        return [found[index] for index in range(len(pairs))]

    def _joined(
        self, line: str, found: Sequence[_Part], scores: Sequence[ForcedScore], request: _Request
    ) -> Translation:
        """A line's parts as one translation."""
        if not found:
            return Translation(line)
        decode = self.loaded.codecs.target.decode
        ranks = range(max(len(part.hypotheses) for part in found))
        rows = [[part.hypotheses[min(rank, len(part.hypotheses) - 1)] for part in found] for rank in ranks]
        texts = [" ".join(filter(None, (decode(each.ids) for each in row))) for row in rows]
        means = [_mean_score(row) for row in rows]
        best = rows[0]
        segments = tuple((part.ids, each.ids) for part, each in zip(found, best, strict=True))
        return Translation(
            source=line,
            text=texts[0],
            score=means[0],
            log_prob=sum(each.log_prob for each in best),
            truncated=any(not each.finished for each in best),
            parts=len(found),
            missing=tuple(term for part in found for term in missing(texts[0], part.terms)),
            alternatives=tuple(zip(texts[1:], means[1:], strict=True)),
            segments=segments,
            token_scores=tuple(value for each in scores for value in each.log_probs),
            alignment=self.aligner.links(segments) if request.explain else (),
        )


@dataclass(frozen=True)
class _Request:
    """What one call of `translate` wants."""

    search: Search
    glossary: Glossary | None
    protect: bool
    explain: bool
    rules: tuple[Rule, ...]

    @property
    def searched(self) -> Search:
        """The search before its results are ranked: a choice needs more to choose from than is asked for."""
        search = self.search
        more = search.beam if search.coverage_penalty and search.method == "beam" else search.nbest
        return msgspec.structs.replace(search, nbest=max(more, search.nbest))

    def terms(self, line: Line, text: str) -> list[Term]:
        """What the translation of `text`, a part of the line, must contain."""
        glossaries = [each for each in (line.glossary, self.glossary) if each is not None]
        found = [term for each in glossaries for term in each.found_in(text)]
        return list(dict.fromkeys([*found, *(protected(text) if self.protect else [])]))


class _Piece(NamedTuple):
    """A part of a line before it is translated."""

    line: Line
    text: str
    ids: list[int]
    prefix: str  # of the first part alone


@dataclass(frozen=True)
class _Part:
    """One part of a line: what was read, what was found, best first, and the terms asked for."""

    ids: tuple[int, ...]
    hypotheses: Sequence[Hypothesis]
    terms: Sequence[Term]

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]


def _mean_score(row: Sequence[Hypothesis]) -> float:
    """The score of several hypotheses as one, by their lengths."""
    if len(row) == 1:
        return row[0].score
    lengths = [len(each.ids) + each.finished for each in row]
    return sum(each.score * length for each, length in zip(row, lengths, strict=True)) / max(1, sum(lengths))


def _translates(loaded: TrainedModel) -> EncoderDecoder:
    if not isinstance(loaded.model, EncoderDecoder):
        other = "label" if isinstance(loaded.recipe.data, Labelled) else "generate"
        raise ModelError(f"{loaded.path} holds no translation model", f"seqkit {other} {loaded.path} uses it")
    return loaded.model


def _pairs(loaded: TrainedModel) -> Pairs:
    if not isinstance(loaded.recipe.data, Pairs):
        raise ModelError(f"{loaded.path} holds no translation model", f"seqkit generate {loaded.path} uses it")
    return loaded.recipe.data


def _blank(line: str) -> bool:
    return not line or line.isspace()


def _limit(recipe: Recipe) -> int:
    """The longest source in tokens: twice what was trained on, as far as there are positions for it and `</s>`."""
    limit = 2 * recipe.data.maximum_length if isinstance(recipe.data, Pairs) else 1
    model = recipe.model
    if isinstance(model, Transformer) and model.positions == "learned":
        limit = min(limit, model.maximum_positions - 1)
    return max(limit, 1)
