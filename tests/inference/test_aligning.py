"""Alignments of words, and how much of a source was looked at, by forced passes over given translations."""

from __future__ import annotations

import math

import msgspec
import pytest
import torch

from seqkit.batch import pad
from seqkit.inference.translator import Translator
from seqkit.text.vocabulary import BOS, EOS
from tests.support.translating import LINES, searching


def test_alignment_has_words_on_both_sides_and_rows_that_sum_to_one(translator: Translator) -> None:
    found = translator.align("h a t", "t a h")
    assert (found.source, found.target) == (["h", "a", "t"], ["t", "a", "h"])
    assert [math.fsum(row) for row in found.weights] == pytest.approx([1.0] * 3)
    [translation] = translator.translate(["h a t"])
    assert translator.align("h a t", translation).target == translation.text.split()
    assert translator.align("", "x") == translator.align("x", " ") == ([], [], [])


def test_alignment_leaves_each_row_to_the_token_that_it_predicts(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictured(source: object, inputs: torch.Tensor, **_: None) -> torch.Tensor:
        assert inputs.tolist()[0][0] == 1  # <s>, and the last word is not read
        return torch.tensor([[[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]])  # the last column is </s>

    monkeypatch.setattr(translator.loaded.model, "alignment", pictured)
    assert translator.align("h a", "a h").weights == [[0.0, 1.0], [1.0, 0.0]]


def test_a_coverage_penalty_ranks_by_what_was_looked_at(translator: Translator) -> None:
    settings = searching(translator, beam=6, nbest=6)
    for line in LINES[:6]:
        [plain] = translator.translate([line], search=settings)
        [covered] = translator.translate([line], search=msgspec.structs.replace(settings, coverage_penalty=2.0))
        before = dict([(plain.text, plain.score), *plain.alternatives])
        after = dict([(covered.text, covered.score), *covered.alternatives])
        assert before.keys() == after.keys()
        ids = translator.loaded.codecs.source.encode(line)
        for text, value in after.items():
            written = translator.loaded.codecs.target.encode(text)
            if not written:
                continue
            read, inputs = pad([[*ids, EOS]]), pad([[BOS, *written[:-1]]])
            with torch.no_grad():
                weights = translator.models[0].alignment(read, inputs.ids)[0, :, :-1]
            penalty = 2.0 * float(weights.sum(0).clamp(1e-3, 1.0).log().sum())
            assert value == pytest.approx(before[text] + penalty, abs=1e-3)


def test_parts_of_a_line_look_only_at_themselves(translator: Translator) -> None:
    codecs = translator.loaded.codecs
    parts = [("h a", "a h"), ("", "x"), ("t o n", "n o")]
    segments = [(codecs.source.encode(source), codecs.target.encode(target)) for source, target in parts]
    whole = translator.aligner.words(segments)
    assert (whole.source, whole.target) == (["h", "a", "t", "o", "n"], ["a", "h", "n", "o"])
    assert [row[2:] for row in whole.weights[:2]] == [[0.0] * 3] * 2
    assert [row[:2] for row in whole.weights[2:]] == [[0.0] * 2] * 2
    assert [row[:2] for row in whole.weights[:2]] == translator.aligner.words(segments[:1]).weights
    for source, target, weight in translator.aligner.links(segments):
        assert weight == pytest.approx(max(whole.weights[target]), abs=1e-3)
        assert whole.weights[target][source] == max(whole.weights[target])


def test_a_model_without_attention_has_no_links(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert translator.aligner.attends
    monkeypatch.setattr(type(translator.models[0]), "attends", False)
    assert translator.aligner.links([([4], [4])]) == ()
