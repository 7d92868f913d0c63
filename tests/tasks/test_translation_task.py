"""Translation: what is read, what is left out, and how a model is validated."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from seqkit.batch import pad
from seqkit.config import build
from seqkit.engine.batch_search import search_batches
from seqkit.errors import DataError
from seqkit.metrics.translation_scores import corpus_scores
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.processes import Processes
from seqkit.runs.network import build_model
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import EOS
from seqkit.settings.automatic import resolve
from seqkit.system.device import CPU
from seqkit.tasks import ValidationContext, prepare
from seqkit.tasks.translation_task import TranslationTask
from tests.support.sessions import toy_corpus, toy_recipe


@pytest.mark.parametrize("batch_tokens", [13, 40, 4096])
def test_the_development_loss_is_a_sum_over_all_tokens_however_they_are_batched(
    tmp_path: Path, batch_tokens: int
) -> None:
    settings = toy_recipe(toy_corpus(tmp_path), batch_tokens=batch_tokens)
    settings = msgspec.structs.replace(settings, data=msgspec.structs.replace(settings.data, maximum_length=12))
    task = prepare(settings, tmp_path / "run")
    assert isinstance(task, TranslationTask)
    assert task.dev is not None
    model = build_model(settings, task.codecs).eval()
    assert isinstance(model, EncoderDecoder)
    validate = task.validator(model, ValidationContext(Processes(), CPU), None)
    assert validate is not None
    tally = validate().tally
    source = task.codecs.source.encode_many(task.dev.source)
    target = task.codecs.target.encode_many(task.dev.target)
    one_by_one = [
        forced_scores(model, pad([[*left, EOS]]), [right])[0] for left, right in zip(source, target, strict=True)
    ]
    nats = -sum(scored.log_prob for scored in one_by_one)
    count = sum(len(scored.log_probs) for scored in one_by_one)
    assert int(tally.tokens) == count
    assert tally.perplexity == pytest.approx(math.exp(nats / count), rel=1e-5)


def prepared(folder: Path, train: str, *, dev: str = "", **data: object) -> TranslationTask:
    """A task over pairs of words; each call has a folder of its own."""
    folder.mkdir()
    (folder / "train.tsv").write_text(train, encoding="utf-8")
    (folder / "dev.tsv").write_text(dev, encoding="utf-8")
    files = {"train": [str(folder / "train.tsv")], "dev": [str(folder / "dev.tsv")] if dev else []}
    tree = {"data": {**files, **data}, "text": {"kind": "words", "split": "spaces"}, "train": {"steps": 1}}
    task = prepare(resolve(build(tree, where="the test")), folder / "run")
    assert isinstance(task, TranslationTask)
    return task


PAIRS = "a b\tb a\nc\tc\nd e f\tf e d\n"


def test_pairs_become_ids_and_are_summed_up(tmp_path: Path) -> None:
    task = prepared(tmp_path / "1", PAIRS, dev="a\ta\n")
    assert task.summary == "3 training pairs, 9 target tokens, 1 development pairs"
    texts = [task.codecs.target.decode(task.examples.target[i].tolist()) for i in range(3)]
    assert texts == ["b a", "c", "f e d"]
    assert sum(group.tokens for group in task.stream(Processes()).groups(0)) == 9


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    task = prepared(tmp_path / "1", PAIRS + "\tx\n", dev="c\tother\n", maximum_length=2, drop_overlap=True)
    assert len(task.examples.source) == 1
    assert "1 training pairs dropped: too long" in task.notes
    assert "1 training pairs dropped: in the development set too" in task.notes
    assert any("blank" in note for note in task.notes)
    kept = prepared(tmp_path / "2", PAIRS, dev="c\tother\n")
    assert len(kept.examples.source) == 3
    assert any("1 training sources also stand in the development set" in note for note in kept.notes)
    with pytest.raises(DataError, match="no usable training pair"):
        prepared(tmp_path / "3", "a b c\td e f\n", maximum_length=1)


def test_the_fingerprint_is_of_the_text_and_of_what_decides_what_becomes_of_it(tmp_path: Path) -> None:
    usual = prepared(tmp_path / "1", PAIRS).fingerprint
    assert prepared(tmp_path / "2", PAIRS, dev="a\ta\n").fingerprint == usual
    others = [
        prepared(tmp_path / "3", PAIRS.replace("c", "g")).fingerprint,
        prepared(tmp_path / "4", PAIRS, maximum_length=7).fingerprint,
        prepared(tmp_path / "5", PAIRS, drop_overlap=True).fingerprint,
    ]
    assert len({usual, *others}) == 4


def test_validation_says_what_the_translator_says(tmp_path: Path) -> None:
    """Scores are those of translations made line by line, and samples stand over the whole of the lines."""
    corpus = toy_corpus(tmp_path)
    settings = toy_recipe(corpus, validate_lines=7)
    task = prepare(settings, corpus / "run")
    model = build_model(settings, task.codecs).eval()
    assert isinstance(task, TranslationTask)
    assert task.dev is not None
    validate = task.validator(model, ValidationContext(Processes(), CPU), None)
    assert validate is not None
    report = validate()
    search = msgspec.structs.replace(settings.search, beam=settings.train.validate_beam, nbest=1)
    assert isinstance(model, EncoderDecoder)
    sources = task.codecs.source.encode_many(task.dev.source[:7])
    best = [search_batches(model, [source], search, device=CPU)[0][0] for source in sources]
    texts = [task.codecs.target.decode(hypothesis.ids) for hypothesis in best]
    assert [sample[2] for sample in report.samples] == [texts[0], texts[3], texts[6]]
    [bleu] = corpus_scores(texts, [task.dev.target[:7]], metrics=["bleu"], resamples=0)
    assert report.scores["bleu"] == pytest.approx(bleu.value)
    assert report.signature == bleu.signature
