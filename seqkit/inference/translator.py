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
    >>> [translation] = translator.translate(["h a t"], glossary=Glossary({"h": ("q r",)}))
    >>> "q r" in translation.text, translation.missing
    (True, ())

There is a translation for each line, in their order; sorting, batching and cutting are private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

import msgspec
import torch

from seqkit.batch import pad
from seqkit.engine.batch_search import BatchSearch
from seqkit.engine.search_engine import Constraints, SearchEngine
from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.inference.aligning import Aligner, Pair
from seqkit.inference.glossary import Glossary, Term, encode_terms, protected_terms, word_boundaries
from seqkit.inference.heat_map import Alignment
from seqkit.inference.line_parts import SourcePart, TranslatedPart, join_parts, rank
from seqkit.inference.mixing import check_same_tokens
from seqkit.inference.translation import Line, Translation
from seqkit.metrics.table import title_of
from seqkit.models.ensemble import Ensemble
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.search.forced_score import ForcedScore, forced_scores
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.rules import BanPhrases, Fusion, Rule
from seqkit.settings import Pairs, Recipe, Search, Stream
from seqkit.state import Decodable
from seqkit.system.device import device_of
from seqkit.text.sentences import split_line
from seqkit.text.vocabulary import BOS, EOS

__all__ = ["WINDOW", "Translator"]

ROWS = 64  # hypotheses that are scored together after the search
WINDOW = 2000  # lines that are read before the first is answered, and that are sorted by length together


class Translator:
    """Trained models with their text layer, ready to translate; those of several are averaged token by token."""

    def __init__(
        self, loaded: TrainedModel, *others: TrainedModel, device: torch.device, engine: SearchEngine | None = None
    ) -> None:
        """Models are on `device` and in evaluation mode, as `trained_model.load` gives them; settings are those of the
        first. Translations are looked for by `engine` (None: the package's own search).

        Raises ModelError if one does not translate or has other tokens than the first.
        """
        every = [loaded, *others]
        for model in every:
            model.require("translation")
        check_same_tokens(every)
        self.models = [cast(EncoderDecoder, model.model) for model in every]
        self.loaded, self.recipe = loaded, loaded.recipe
        self.data = cast(Pairs, loaded.recipe.data)
        self.model: Decodable = self.models[0] if not others else Ensemble(self.models)
        self.engine: SearchEngine = engine or BatchSearch(self.model, device=device)
        self.device = device
        self.aligner = Aligner(self.models, loaded.codecs, device=device)
        self.limit = min(_limit(model.recipe) for model in every)  # source tokens; longer lines are cut
        self._word_boundaries = word_boundaries(loaded.codecs.target)
        self._language_models: dict[str, TrainedModel] = {}  # by path

    @classmethod
    def load(cls, path: str | Path, *others: str | Path, device: str = "auto") -> Translator:
        """Read run folders, whose best checkpoints are taken, or `model/` folders; several become an ensemble.

        Raises ModelError when there is no sound model, ConfigError for a device that is not there.
        """
        resolved = device_of(device)
        return cls(*(load(Path(folder), device=resolved) for folder in (path, *others)), device=resolved)

    @property
    def name(self) -> str:
        """Source and target language: `en-de`."""
        return f"{self.data.source}-{self.data.target}"

    @property
    def description(self) -> str:
        """The model in a line: `en-de  transformer 1.2 M  step 1400  dev BLEU 33.20  cpu`."""
        size = sum(parameter.numel() for model in self.models for parameter in model.parameters())
        kind = type(self.recipe.model).__name__.lower()
        if len(self.models) > 1:
            return "  ".join([self.name, f"{len(self.models)} models, {size / 1e6:.1f} M", str(self.device)])
        facts = self.loaded.facts
        words = [self.name, f"{kind} {size / 1e6:.1f} M", f"step {facts.get('step')}"]
        if isinstance(score := facts.get("score"), float):
            words.append(f"dev {title_of(str(facts.get('metric')))} {score:.2f}")
        return "  ".join([*words, str(self.device)])

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

        Where a source has a term of the glossary, its translation has one of the term's forms; with `protect` web and
        mail addresses, placeholders and numbers are copied. Terms that could not be placed are named in `missing`.
        `explain` adds token scores and word alignment. A translation does not depend on the other lines. Raises
        ConfigError for settings that cannot be met, ModelError for a coverage penalty without attention.
        """
        search = search or self.recipe.search
        changes = {"beam": beam, "nbest": nbest}
        search = msgspec.structs.replace(search, **{key: n for key, n in changes.items() if n is not None})
        request = _Request(search, glossary, protect, explain, tuple(self._rules(search)))
        pending = iter(lines)
        while window := list(islice(pending, WINDOW)):
            yield from self._window([Line(line) if isinstance(line, str) else line for line in window], request)

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[ForcedScore]:
        """The log-probability of each target given its source, token by token, in nats, ends included.

        Raises DataError unless there are as many targets as sources.
        """
        if len(sources) != len(targets):
            raise DataError(f"{len(sources)} sources, but {len(targets)} targets", "give a target for each source")
        codecs = self.loaded.codecs
        pairs = zip(codecs.source.encode_many(sources), codecs.target.encode_many(targets), strict=True)
        return self._forced_scores(list(pairs))

    def align(
        self, source: str, target: str | Translation, *, layer: int | None = None, head: int | None = None
    ) -> Alignment:
        """How strongly each word of a translation attended to each word of its source, in one forced pass.

        `target` is any text, or a translation of this source by `translate`. `layer` and `head` of a Transformer's
        attention are counted from 1; without them it is the mean of all heads of the last layer but one. Raises
        ModelError if the model has no attention, ConfigError if it has no such layer or head.
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
        """The rule that adds the scores of a language model, which is read once."""
        if path not in self._language_models:
            self._language_models[path] = load(Path(path), device=self.device)
        loaded = self._language_models[path]
        if loaded.purpose != "language":
            raise ModelError(f"{path} holds no language model", "search.language_model is the run of one")
        check_same_tokens([self.loaded, loaded])
        begin = EOS if isinstance(loaded.recipe.data, Stream) else BOS  # the lines of a stream follow each other
        return Fusion(cast(Decodable, loaded.model), weight, (begin,), self.device)

    def _window(self, lines: Sequence[Line], request: _Request) -> Iterator[Translation]:
        """Translate all parts of the lines together, and join those of each line."""
        search = request.search
        parts_of_lines = self._split(lines, request)
        parts = [part for parts_of_line in parts_of_lines for part in parts_of_line]
        sources = [part.ids for part in parts]
        nbest = self.engine.search(sources, request.engine_search, self._constraints(parts, request.rules))
        if search.coverage_penalty:
            nbest = self._with_coverage(sources, nbest, search)
        decode = self.loaded.codecs.target.decode
        translated = [
            TranslatedPart(tuple(part.ids), rank(hypotheses, part.terms, search, decode), part.terms)
            for part, hypotheses in zip(parts, nbest, strict=True)
        ]
        scores = self._forced_scores([(part.ids, part.best.ids) for part in translated]) if request.explain else []
        begin = 0
        for line, parts_of_line in zip(lines, parts_of_lines, strict=True):
            end = begin + len(parts_of_line)
            translation = join_parts(line.text, translated[begin:end], scores[begin:end], decode)
            if request.explain:
                translation = replace(translation, alignment=self.aligner.links(translation.segments))
            yield translation
            begin = end

    def _split(self, lines: Sequence[Line], request: _Request) -> list[list[SourcePart]]:
        """The parts of each line: none of a blank one, several of one that is too long."""
        encoded = self.loaded.codecs.source.encode_many(["" if _blank(line.text) else line.text for line in lines])
        return [self._parts(line, ids, request) for line, ids in zip(lines, encoded, strict=True)]

    def _parts(self, line: Line, ids: list[int], request: _Request) -> list[SourcePart]:
        encode = self.loaded.codecs.source.encode
        texts = (
            [line.text] if len(ids) <= self.limit else split_line(line.text, size=self._token_count, limit=self.limit)
        )
        encoded = [(line.text, ids)] if len(texts) == 1 else [(text, encode(text)) for text in texts]
        filled = [(text, part_ids[: self.limit]) for text, part_ids in encoded if part_ids]
        return [
            SourcePart(part_ids, "" if index else line.prefix, request.terms(line, text))
            for index, (text, part_ids) in enumerate(filled)
        ]

    def _token_count(self, text: str) -> int:
        return len(self.loaded.codecs.source.encode(text))

    def _constraints(self, parts: Sequence[SourcePart], rules: tuple[Rule, ...]) -> Constraints:
        """What the translation of each part must hold, in ids."""
        codec = self.loaded.codecs.target
        terms = [encode_terms(codec, part.terms)[0] for part in parts]
        prefixes = [codec.encode(part.prefix) if part.prefix else [] for part in parts]
        return Constraints(
            prefixes=prefixes if any(prefixes) else None,
            terms=terms if any(terms) else None,
            word_boundaries=self._word_boundaries,
            rules=rules,
        )

    def _with_coverage(
        self, sources: Sequence[Sequence[int]], nbest: Sequence[Sequence[Hypothesis]], search: Search
    ) -> list[list[Hypothesis]]:
        """N-best lists whose scores hold the coverage penalty (Wu et al., 2016, equation 14), in their new order."""
        flat = [(index, hypothesis) for index, hypotheses in enumerate(nbest) for hypothesis in hypotheses]
        coverages = self.aligner.coverage([(sources[index], hypothesis.ids) for index, hypothesis in flat])
        rescored: list[list[Hypothesis]] = [[] for _ in sources]
        for (index, hypothesis), coverage in zip(flat, coverages, strict=True):
            score = hypothesis.score + search.coverage_penalty * coverage
            rescored[index].append(replace(hypothesis, score=score))
        return [sorted(hypotheses, key=_finished_first) for hypotheses in rescored]

    def _forced_scores(self, pairs: Sequence[Pair]) -> list[ForcedScore]:
        """The forced scores of target ids given source ids, in batches of similar length."""
        order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]))
        scores: dict[int, ForcedScore] = {}
        for first in range(0, len(order), ROWS):
            rows = order[first : first + ROWS]
            source = pad([[*pairs[index][0], EOS] for index in rows]).to(self.device)
            batch = forced_scores(self.model, source, [list(pairs[index][1]) for index in rows])
            scores.update(zip(rows, batch, strict=True))
        return [scores[index] for index in range(len(pairs))]


@dataclass(frozen=True)
class _Request:
    """The settings of one call of `translate`."""

    search: Search
    glossary: Glossary | None
    protect: bool
    explain: bool
    rules: tuple[Rule, ...]

    @property
    def engine_search(self) -> Search:
        """The settings for the engine: the coverage penalty re-ranks all hypotheses of a beam, not the n-best alone."""
        search = self.search
        count = search.beam if search.coverage_penalty and search.method == "beam" else search.nbest
        return msgspec.structs.replace(search, nbest=max(count, search.nbest))

    def terms(self, line: Line, text: str) -> list[Term]:
        """The terms of the translation of `text`, a part of the line."""
        glossaries = [glossary for glossary in (line.glossary, self.glossary) if glossary is not None]
        terms = [term for glossary in glossaries for term in glossary.terms_in(text)]
        return list(dict.fromkeys([*terms, *(protected_terms(text) if self.protect else [])]))


def _finished_first(hypothesis: Hypothesis) -> tuple[bool, float]:
    return not hypothesis.finished, -hypothesis.score


def _blank(line: str) -> bool:
    return not line or line.isspace()


def _limit(recipe: Recipe) -> int:
    """The longest source in tokens: twice the longest in training, as far as there are positions for it and `</s>`."""
    limit = 2 * cast(Pairs, recipe.data).maximum_length
    reach = recipe.model.reach
    return max(limit if reach is None else min(limit, reach - 1), 1)
