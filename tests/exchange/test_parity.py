"""What counts as the same model, with a tool that is our own model behind a mask."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seqkit.batch import pad
from seqkit.errors import ModelError
from seqkit.exchange.parity import SENTENCES, TOLERANCE, Sentences, agreement, sentences_of, verify
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.search.beam import beam
from seqkit.search.forced_score import forced_scores
from seqkit.settings import Search
from seqkit.text.vocabulary import EOS, UNKNOWN
from tests.support.exports import SOURCES, WORDS, tiny_model


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return load(tiny_model(tmp_path_factory.mktemp("run"), text=WORDS, model={}, dev=True))


class Mirror:
    """Another tool that is right, but for what is added to one log-probability and changed in one translation."""

    def __init__(self, loaded: TrainedModel, *, added: float = 0.0, rank: int = 0) -> None:
        assert isinstance(loaded.model, EncoderDecoder)
        self.model, self.added, self.rank = loaded.model, added, rank

    def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
        read = pad([[*ids, EOS] for ids in sources])
        settings = Search(beam=1, maximum_length=longest, maximum_extra=longest)
        found = [list(each[0].ids) for each in beam(self.model, read, settings)]
        found[0] = found[0][: len(found[0]) - self.rank]
        return found

    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        read = pad([[*ids, EOS] for ids in sources])
        found = [list(each.log_probs) for each in forced_scores(self.model, read, targets)]
        found[-1][-1] += self.added
        return found


@pytest.mark.parametrize("added", [0.0, 0.5 * TOLERANCE, -0.5 * TOLERANCE])
def test_the_same_model_is_the_same_but_for_rounding(added: float, loaded: TrainedModel) -> None:
    mirror = Mirror(loaded, added=added)
    found = agreement(mirror.model, mirror, sentences_of(loaded))
    assert (found.sentences, found.equal) == (SENTENCES, SENTENCES)
    assert found.difference == pytest.approx(abs(added), abs=1e-5)
    verify(found, "a mirror")


@pytest.mark.parametrize("added", [2 * TOLERANCE, -2 * TOLERANCE, math.nan, math.inf])
def test_one_log_probability_that_differs_is_enough(added: float, loaded: TrainedModel) -> None:
    mirror = Mirror(loaded, added=added)
    with pytest.raises(ModelError, match="not the same in a mirror: 20 of 20"):
        verify(agreement(mirror.model, mirror, sentences_of(loaded)), "a mirror")


def test_one_translation_that_differs_is_enough(loaded: TrainedModel) -> None:
    mirror = Mirror(loaded, rank=1)
    with pytest.raises(ModelError, match="not the same in a mirror: 19 of 20"):
        verify(agreement(mirror.model, mirror, sentences_of(loaded)), "a mirror")


def test_where_our_model_cannot_decide_either_way_will_do(
    loaded: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tokens of equal probability: which of them a tool takes is a matter of rounding."""
    mirror = Mirror(loaded)
    output = mirror.model.output
    sources = sentences_of(loaded)
    token = mirror.greedy(sources, 10)[0][0]
    twin = next(id for id in range(UNKNOWN + 1, len(loaded.codecs.target)) if id != token)
    for name in ("weight", "bias"):
        changed = getattr(output, name).detach().clone()
        changed[twin] = changed[token]
        monkeypatch.setattr(getattr(output, name), "data", changed)
    chosen = mirror.greedy(sources, 10)[0][0]
    other = token if chosen == twin else twin

    class Undecided(Mirror):
        def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
            found = super().greedy(sources, longest)
            return [[other, *ids[1:]] if ids[:1] == [chosen] else ids for ids in found]

    assert agreement(mirror.model, Undecided(loaded), sources).equal == SENTENCES


def test_development_lines_come_before_random_ones(loaded: TrainedModel, tmp_path: Path) -> None:
    found = sentences_of(loaded)
    assert found[: len(SOURCES)] == loaded.codecs.source.encode_many(SOURCES)
    assert len(found) == SENTENCES
    assert all(found)
    (Path(loaded.recipe.data.dev[0])).rename(tmp_path / "elsewhere")
    assert len(sentences_of(loaded)) == SENTENCES
    (tmp_path / "elsewhere").rename(loaded.recipe.data.dev[0])
