"""One figure for one model and one text, however it is batched; mixtures, caches and learning are named beside it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from seqkit.errors import ConfigError, ModelError
from seqkit.inference.evaluation import LineScore, ScoredText, ScoringOptions, score_files


@pytest.fixture
def runs(language_runs: Path) -> Path:
    return language_runs


def scored(runs: Path, names: str, file: str | Path, options: ScoringOptions | None = None) -> ScoredText:
    """Score one of the texts by models whose names are joined by `+`."""
    return score_files([runs / name for name in names.split("+")], [str(runs / file)], options or ScoringOptions())


@pytest.mark.parametrize("context", [None, ("lines", None, None), ("whole", None, None), ("blocks", 6, None)])
@pytest.mark.parametrize(
    "model", ["lstm", "ngram", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lines", "letters"))]
)
def test_the_number_does_not_depend_on_the_batch(
    runs: Path, model: str, context: tuple[str, int | None, int | None] | None
) -> None:
    nlls = [
        scored(runs, model, "test.txt", ScoringOptions(context=context, budget=size)).figures.nll
        for size in (1, 7, 64, 4096)
    ]
    assert nlls == pytest.approx([nlls[0]] * 4, rel=1e-6)


def test_what_is_counted_does_not_depend_on_the_model(runs: Path) -> None:
    raw = (runs / "test.txt").read_text(encoding="utf-8")
    words = len(raw.split()) + raw.count("\n")
    for model in ("lstm", "ngram", "lines", "letters"):
        figures = scored(runs, model, "test.txt").figures
        text = figures.text
        assert (text.lines, text.words, text.characters, text.bytes) == (raw.count("\n"), words, len(raw), len(raw))
        assert figures.per_word == pytest.approx(math.exp(figures.nll / words))
        assert figures.bits_per_character == pytest.approx(figures.nll / math.log(2) / len(raw))


def test_half_of_a_block_is_read_and_not_counted_unless_told_otherwise(runs: Path) -> None:
    half, told, none = (
        scored(runs, "lstm", "test.txt", ScoringOptions(context=("blocks", 6, overlap))).figures.nll
        for overlap in (None, 3, 0)
    )
    assert half == told != none


def test_unknown_tokens_are_counted(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_text("the cat saw a zebra\n", encoding="utf-8")
    assert scored(runs, "lstm", tmp_path / "odd.txt").figures.unknown == 1


def test_lines_have_their_tokens_and_add_up(runs: Path) -> None:
    result = scored(runs, "lstm", "test.txt")
    texts = (runs / "test.txt").read_text(encoding="utf-8").splitlines()
    assert [(line.number, line.text) for line in result.lines] == list(enumerate(texts, start=1))
    for line in result.lines:
        words = [*line.text.split(), "</s>"]
        assert all(piece in (word, "<unk>") for piece, word in zip(line.pieces, words, strict=True))
    assert -math.fsum(line.log_prob for line in result.lines) == pytest.approx(result.figures.nll)
    assert sum(line.tokens for line in result.lines) == result.figures.tokens


def test_a_hopeless_line_has_an_infinite_perplexity() -> None:
    assert LineScore(1, "a", ("a", "</s>"), (-2.0, -4.0)).perplexity == pytest.approx(math.exp(3))
    assert LineScore(1, "a", ("a",), (-1e4,)).perplexity == math.inf


def test_a_tuned_mixture_with_a_cache_is_named_and_no_worse_than_its_parts(runs: Path) -> None:
    alone = [scored(runs, name, "dev.txt").figures.nll for name in ("lstm", "ngram")]
    tuned = f"tune:{runs / 'dev.txt'}"
    mixed = scored(runs, "lstm+ngram", "dev.txt", ScoringOptions(weights=tuned))
    assert mixed.figures.nll <= min(alone) + 1e-3
    assert "ngram" in mixed.mixture
    assert "tuned on" in mixed.mixture
    cached = scored(runs, "lstm+ngram", "dev.txt", ScoringOptions(weights=tuned, cache=20))
    assert cached.figures.nll <= mixed.figures.nll + 1e-3
    assert "cache of 20 tokens" in cached.mixture
    assert sum(cached.weights) == pytest.approx(1)
    given = scored(runs, "lstm+ngram", "dev.txt", ScoringOptions(weights="1,0"))
    assert given.figures.nll == pytest.approx(alone[0])


def test_dynamic_evaluation_learns_a_copy(runs: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.txt"
    again.write_text("river old near the saw cat dog\n" * 30, encoding="utf-8")
    for context in (("whole", None, None), ("lines", None, None), ("blocks", 8, None)):
        before = scored(runs, "lstm", again, ScoringOptions(context=context))
        learning = scored(runs, "lstm", again, ScoringOptions(context=context, dynamic=0.3))
        assert learning.figures.nll < 0.9 * before.figures.nll
        assert "rate 0.3" in learning.dynamic
        frozen = scored(runs, "lstm", again, ScoringOptions(context=context, dynamic=1e-12))
        assert frozen.figures.nll == pytest.approx(before.figures.nll, rel=1e-5)
    assert scored(runs, "lstm", again) == scored(runs, "lstm", again)


@pytest.mark.parametrize(
    ("names", "options", "kind", "words"),
    [
        ("lstm+letters", ScoringOptions(weights="0.5,0.5"), ConfigError, "text.from"),
        ("lstm+ngram", ScoringOptions(), ConfigError, "needs weights"),
        ("lstm+ngram", ScoringOptions(weights="half,half"), ConfigError, "tune:FILE"),
        ("lstm", ScoringOptions(weights="1"), ConfigError, "are for mixtures"),
        ("ngram", ScoringOptions(dynamic=0.1), ConfigError, "do not learn"),
    ],
)
def test_options_that_do_not_fit_the_models_are_refused(
    runs: Path, names: str, options: ScoringOptions, kind: type[Exception], words: str
) -> None:
    with pytest.raises((kind, ModelError), match=words):
        scored(runs, names, "test.txt", options)


def test_translations_are_scored_given_their_sources(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("h a t\tt a h\ns o\to s\n", encoding="utf-8")
    result = score_files([trained], [str(tmp_path / "pairs.tsv")], ScoringOptions())
    assert result.context == "each translation given its source"
    assert [line.text for line in result.lines] == ["t a h", "o s"]
    with pytest.raises(ConfigError, match="are for language models"):
        score_files([trained], [str(tmp_path / "pairs.tsv")], ScoringOptions(cache=5, weights="0.5,0.5"))
