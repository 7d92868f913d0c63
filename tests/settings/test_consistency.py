"""Settings that are right alone and do not go together are refused with what to do; what goes together passes."""

from __future__ import annotations

from typing import Any

import pytest

from seqkit.config import build
from seqkit.errors import ConfigError
from seqkit.settings import Pairs, Recipe, Search, Transformer
from seqkit.settings.consistency import check


def refused(data: dict[str, Any], *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(data, where="the test", overrides=overrides)
    return caught.value


def test_a_plain_recipe_passes() -> None:
    assert check(build({"data": {"train": ["a.en", "a.de"]}}, where="the test")) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.heads=3"],
        ["model=mixed", "model.width=10"],
        ["model.positions=rotary", "model.width=12"],
        ["text.joint=false"],
        ["search.nbest=6"],
        ["search.minimum_length=9", "search.maximum_length=8"],
        ["train.optimizer=muon", "train.sharded=true"],
        ["train.optimizer=averaged_sgd", "data.dev=['d']", "train.sharded=true"],
        ["model.layer_drop=0.1", "train.sharded=true"],
        ["train.compile=true", "train.sharded=true"],
        ["model=recurrent", "train.recompute=true"],
        ["data.dev=['d']", "train.average=0.9", "train.optimizer=averaged_sgd"],
        ["train.optimizer=averaged_sgd"],
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str]) -> None:
    data = {"data": {"train": ["a"]}}
    assert refused(data, *overrides).exit_code == 2
    assert build(data, where="", overrides=overrides[1:-1])  # each alone may be right


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "recurrent_language_model, transformer_language_model, ngram"),
        (["data.kind=lines", "model=plain"], "recurrent_language_model, transformer_language_model, ngram"),
        (["data.kind=labelled", "model=ngram"], "recurrent_labeller, transformer_labeller"),
        (["data.kind=pairs", "model=ngram"], "transformer, recurrent, plain, mixed"),
        (["model=transformer_language_model", "data.partition=sequential"], "data.partition=random"),
        (["model=ngram", "data.partition=sequential"], "data.partition=random"),
        (["model=recurrent_language_model", "data.window=9", "train.batch_tokens=8"], "rows"),
        (
            ["model=transformer_language_model", "model.positions=learned", "data.window=513"],
            "model.maximum_positions=513",
        ),
        (["model=ngram", "train.metric=bleu"], "auto, loss"),
        (
            ["model=recurrent_language_model", "model.cell=mingru", "model.weight_drop=0.1"],
            "model.weight_drop=0",
        ),
        (["data.kind=labelled", "model=recurrent_labeller", "text=words"], "text.joint=false"),
        (["data.kind=labelled", "model=recurrent_labeller", "text.joint=false"], "text.kind=words"),
        (["data.kind=pairs", "train.metric=f1"], "auto, loss, bleu, chrf"),
    ],
)
def test_data_models_and_text_that_do_not_go_together_are_refused(overrides: list[str], words: str) -> None:
    error = refused({"data": {"kind": "stream", "train": ["a"]}}, *overrides)
    assert words in str(error)
    assert "\n" not in error.what  # one mistake, not two


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=ngram", "data.window=9", "train.batch_tokens=8"],  # no batches
        ["model=ngram", "model.order=1"],
        ["model=recurrent_language_model", "data.partition=sequential"],
        ["model=recurrent_language_model", "data.partition=random"],
        ["model=transformer_language_model", "data.window=513"],
        ["model=transformer_language_model", "data.kind=lines", "train.batch_tokens=8"],
        ["data.kind=labelled", "model=transformer_labeller", "text=words", "text.joint=false", "train.metric=f1"],
    ],
)
def test_what_goes_together_passes(overrides: list[str]) -> None:
    assert build({"data": {"kind": "stream", "train": ["a"]}}, where="", overrides=overrides)


def test_what_python_builds_can_be_checked_too() -> None:
    assert len(check(Recipe(data=Pairs(train=("a",)), model=Transformer(heads=3), search=Search(nbest=9)))) == 2
