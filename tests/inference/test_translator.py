"""The translator: as many translations as lines, in order, each independent of its neighbours."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

import seqkit
from seqkit.batch import pad
from seqkit.engine.search_engine import Constraints
from seqkit.errors import ConfigError, DataError
from seqkit.inference import translator as translator_module
from seqkit.inference.glossary import Glossary, missing_terms
from seqkit.inference.translation import Line
from seqkit.inference.translator import Translator
from seqkit.metrics.sacrebleu_scores import Utility, utilities
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import load
from seqkit.search import Hypothesis, beam
from seqkit.search.forced_score import forced_scores
from seqkit.settings import Pairs, Search
from seqkit.system.device import CPU
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import EOS
from tests.support.translating import LINES, searching


def test_lines_are_answered_in_order_whatever_the_batches_and_windows(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [found for line in LINES for found in translator.translate([line])]
    assert [found.source for found in alone] == LINES
    assert len({found.text for found in alone}) > 10  # else the order could not be told
    for window, budget in ((1, 8192), (7, 8192), (2000, 8192), (2000, 30)):
        monkeypatch.setattr(translator_module, "WINDOW", window)
        together = list(translator.translate(LINES, search=searching(translator, batch_tokens=budget)))
        assert [found.text for found in together] == [found.text for found in alone]
        scores = [found.score for found in together]
        assert scores == pytest.approx([found.score for found in alone], abs=1e-4)
    mixed = random.Random(1).sample(LINES, len(LINES))
    texts = {found.source: found.text for found in translator.translate(mixed)}
    assert [texts[line] for line in LINES] == [found.text for found in alone]


def test_lines_are_taken_a_window_at_a_time(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator_module, "WINDOW", 3)
    waiting = iter(LINES)
    next(translator.translate(waiting))
    assert next(waiting) == LINES[3]


def test_blank_lines_are_empty_and_the_model_is_not_asked(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = list(translator.translate(["h a t", "", "  ", "\u00a0", "\t\u3000", "t a h"]))
    assert [bool(one.text) for one in found] == [True, False, False, False, False, True]
    assert all(one.log_prob == one.score == 0 for one in found[1:5])
    monkeypatch.setattr(translator.loaded.model, "start", None)
    monkeypatch.setattr(Codec, "encode_many", lambda _, texts: [[9] if text else [] for text in texts])
    assert [one.text for one in translator.translate(["", "\u2003"])] == ["", ""]


def test_scores_are_those_of_a_forced_pass(translator: Translator) -> None:
    assert isinstance(translator.loaded.model, EncoderDecoder)
    for found in translator.translate(LINES[:10]):
        source = pad([[*found.source_ids, EOS]])
        if not found.truncated:
            [forced] = forced_scores(translator.loaded.model, source, [found.target_ids])
            assert (found.log_prob, found.score) == pytest.approx((forced.log_prob, forced.score), abs=1e-4)


def test_alternatives_are_the_rest_of_the_n_best_list(translator: Translator) -> None:
    settings = searching(translator, beam=4, nbest=3)
    assert isinstance(translator.loaded.model, EncoderDecoder)
    for found in translator.translate(LINES, search=settings):
        [hypotheses] = beam(translator.loaded.model, pad([[*found.source_ids, EOS]]), settings)
        texts = [translator.loaded.codecs.target.decode(one.ids) for one in hypotheses]
        assert [found.text, *(text for text, _ in found.alternatives)] == texts
        scores = [found.score, *(score for _, score in found.alternatives)]
        assert scores == pytest.approx([one.score for one in hypotheses], abs=1e-4)
        assert found.truncated == (not hypotheses[0].finished)
    with pytest.raises(ConfigError, match="nbest"):
        list(translator.translate(["h a t"], search=searching(translator, beam=2, nbest=3)))


def test_too_long_a_line_is_translated_in_parts(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(translator.recipe.data, Pairs)
    assert translator.limit == 2 * translator.recipe.data.maximum_length
    monkeypatch.setattr(translator, "limit", 4)
    long, exact, rest = translator.translate(["h a t s m o r e", "h a t s", "m o r e"])
    assert (long.parts, exact.parts) == (2, 1)
    assert long.text == f"{exact.text} {rest.text}"
    assert long.source_ids == exact.source_ids + rest.source_ids
    assert long.log_prob == pytest.approx(exact.log_prob + rest.log_prob, rel=1e-4)
    [one_word] = translator.translate(["h" * 9])
    assert one_word.text


def test_unknown_tokens_are_counted_and_a_reached_limit_is_told(translator: Translator) -> None:
    [found] = translator.translate(["h ä ß t"], search=searching(translator, beam=1, maximum_length=1))
    assert found.unknown == 2
    assert found.truncated
    assert len(found.target_ids) == 1


def test_wild_text_is_translated_to_one_line(translator: Translator) -> None:
    for text in ("a\nb", "a\u2028b", "\ud800", "<s> </s>", "a\0b", "\ufeff"):
        [found] = translator.translate([text])
        assert len(found.text.splitlines()) <= 1
        found.text.encode()


def test_the_precision_of_a_search_is_a_setting(translator: Translator) -> None:
    lines = ["h a t", "m a t e", "c a t s"]
    search = translator.recipe.search
    exact, narrow, again = (
        [
            (found.text, found.log_prob)
            for found in translator.translate(lines, search=msgspec.structs.replace(search, precision=precision))
        ]
        for precision in ("float32", "bf16", "float32")
    )
    assert exact == again
    assert [score for _, score in narrow] != [score for _, score in exact]
    assert [score for _, score in narrow] == pytest.approx([score for _, score in exact], rel=0.05, abs=0.05)


def test_a_run_and_its_model_folder_are_the_same_translator(trained: Path, translator: Translator) -> None:
    folder = Translator.load(trained / "model", device="cpu")
    assert list(folder.translate(LINES)) == list(translator.translate(LINES))
    assert folder.description == translator.description
    assert translator.name == "word-drow"
    assert translator.description.startswith("word-drow  transformer 0.0 M  step 60  dev BLEU ")


def test_the_package_offers_its_names_and_imports_nothing_heavy(trained: Path) -> None:
    assert set(seqkit.__all__) <= set(dir(seqkit))
    assert isinstance(seqkit.load(trained, device="cpu"), Translator)
    assert seqkit.Translator is Translator
    with pytest.raises(AttributeError, match="nothing"):
        _ = vars(seqkit)["__getattr__"]("nothing")
    code = (
        "import sys, seqkit; assert not {'torch', 'msgspec', 'numpy'} & set(sys.modules); "
        "seqkit.Recipe, seqkit.__version__; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_terms_are_in_the_text_or_named_as_missing(translator: Translator) -> None:
    glossary = Glossary({"h": ("q r s", "x y"), "a t": ("z",), "o": ("不",)})
    found = list(translator.translate(["h a t s", "m a t e", "p l", "b o"], glossary=glossary))
    assert missing_terms(found[0].text, [("q r s", "x y"), ("z",)]) == []
    assert missing_terms(found[1].text, [("z",)]) == []
    assert [each.missing for each in found] == [(), (), (), ("不",)]  # no such token: it is said, and the rest is done
    plain = list(translator.translate(["p l", "b o"]))
    assert [found[2].text, found[3].text] == [each.text for each in plain]
    for line, each in zip(["h a t s", "m a t e"], found, strict=False):  # neighbours change nothing
        [alone] = translator.translate([line], glossary=glossary)
        assert alone.text == each.text
        assert each.log_prob == pytest.approx(alone.log_prob, abs=1e-4)
    [own] = translator.translate([Line("h a", glossary=Glossary({"a": ("z z z",)}))])
    assert "z z z" in own.text


def test_a_line_begins_as_it_is_told(translator: Translator) -> None:
    lines = [Line("h a t s", prefix="z y"), Line("m a t e"), Line("h a t s"), Line("", prefix="z")]
    found = list(translator.translate(lines))
    assert found[0].text.startswith("z y")
    assert found[3].text == ""
    plain = list(translator.translate(["m a t e", "h a t s"]))
    assert [each.text for each in found[1:3]] == [each.text for each in plain]


def test_the_same_seed_draws_the_same_wherever_a_line_stands(translator: Translator) -> None:
    settings = searching(translator, method="sample", temperature=2.0)
    together = [each.text for each in translator.translate(LINES, search=settings)]
    backwards = [each.text for each in translator.translate(LINES[::-1], search=settings)]
    assert together == backwards[::-1]
    other = [each.text for each in translator.translate(LINES, search=msgspec.structs.replace(settings, seed=1))]
    assert other != together
    greedy = list(translator.translate(LINES, search=searching(translator, beam=1)))
    likeliest = translator.translate(LINES, search=msgspec.structs.replace(settings, top_k=1))
    assert [each.text for each in likeliest] == [each.text for each in greedy]


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_minimum_risk_chooses_what_resembles_the_other_draws_most(translator: Translator, utility: Utility) -> None:
    settings = searching(translator, method="minimum_risk", samples=12, nbest=3, utility=utility, temperature=1.5)
    drawing = msgspec.structs.replace(settings, method="sample", nbest=12)
    for line in LINES[:6]:
        [chosen] = translator.translate([line], search=settings)
        [draws] = translator.translate([line], search=drawing)
        texts = [draws.text, *(text for text, _ in draws.alternatives)]
        assert len(texts) == 12
        values = {text: sum(utilities(text, texts, utility=utility)) / 12 for text in texts}
        assert values[chosen.text] == pytest.approx(max(values.values()))
        ranked = [chosen.score, *(score for _, score in chosen.alternatives)]
        assert ranked == pytest.approx(sorted(values.values(), reverse=True)[: len(ranked)])


def test_several_models_are_one(trained: Path, translator: Translator) -> None:
    twice = Translator.load(trained, trained / "model", device="cpu")
    for one, other in zip(translator.translate(LINES), twice.translate(LINES), strict=True):
        assert one.text == other.text
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-3)
    assert "2 models" in twice.description


def test_what_is_explained_is_what_a_forced_pass_says(translator: Translator) -> None:
    for found in translator.translate([*LINES[:5], ""], explain=True):
        if not found.text:
            continue
        assert sum(found.token_scores) == pytest.approx(found.log_prob, abs=1e-3)
        assert len(found.token_scores) == len(found.target_ids) + 1
        [scored] = translator.score([found.source], [found.text])
        assert scored.log_probs == pytest.approx(found.token_scores, abs=1e-4)
        assert [target for _, target, _ in found.alignment] == list(range(len(found.text.split())))
        rows = translator.align(found.source, found).weights
        assert [weight for _, _, weight in found.alignment] == pytest.approx([max(row) for row in rows], abs=1e-3)
        assert 0 < found.confidence <= 1
    with pytest.raises(DataError, match="2 sources"):
        translator.score(["a", "b"], ["c"])


def test_banned_words_do_not_come(translator: Translator) -> None:
    plain = list(translator.translate(LINES))
    banned = plain[0].text.split()[0]
    for found in translator.translate(LINES, search=searching(translator, ban=(banned,))):
        assert banned not in found.text.split()
    with pytest.raises(ConfigError, match="nothing"):
        list(translator.translate(LINES, search=searching(translator, ban=("",))))


class Echo:
    """A search by another program: it gives every source back, shortened, with a rank for its score."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Search]] = []

    def search(
        self,
        sources: Sequence[Sequence[int]],
        settings: Search,
        constraints: Constraints | None = None,
        *,
        batch_done: Callable[[], object] | None = None,
    ) -> list[list[Hypothesis]]:
        self.asked.append((len(sources), settings))
        return [
            [Hypothesis(tuple(ids[rank:]), -1.0 - rank, -1.0 - rank, True) for rank in range(settings.nbest)]
            for ids in sources
        ]


def test_another_program_can_search(trained: Path) -> None:
    loaded = load(trained)
    engine = Echo()
    translator = Translator(loaded, device=CPU, engine=engine)
    translations = list(translator.translate(["a b c", "", "c d e f"], nbest=2))
    assert [count for count, _ in engine.asked] == [2]  # a blank line is nobody's business
    source, target = loaded.codecs.source, loaded.codecs.target
    assert [translation.text for translation in translations] == [
        target.decode(source.encode(line)) for line in ("a b c", "", "c d e f")
    ]
    assert [len(translation.alternatives) for translation in translations] == [1, 0, 1]
