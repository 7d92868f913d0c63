"""What may change between two attempts at a run stands at every setting's own field; without a mark it is binding."""

from __future__ import annotations

import pytest

from seqkit.settings.schema import keys, rule_of

PATHS = {key.path for key in keys()}
# How a run is watched, saved and shared out; none of it changes what a step does.
WATCHED = [
    "processes",
    "sharded",
    "validate_every",
    "validate_beam",
    "validate_lines",
    "patience",
    "target",
    "save_every",
    "save_minutes",
    "keep",
    "log_seconds",
    "keep_heap",
    "fused_optimizer",
    "compile",
    "recompute",
]


def test_what_a_step_does_is_binding() -> None:
    sections = ("model.", "text.", "train.optimizer.", "train.schedule.")
    assert {rule_of(path) for path in PATHS if path.startswith(sections)} == {"binding"}
    for name in ("batch_tokens", "accumulate", "learning_rate", "seed", "metric", "precision", "cheap_dropout"):
        assert rule_of(f"train.{name}") == "binding"
    assert rule_of("data.kind") == rule_of("data.dev") == rule_of("data.maximum_length") == "binding"


def test_only_three_settings_are_limits() -> None:
    assert {path for path in PATHS if rule_of(path) == "limit"} == {"train.steps", "train.epochs", "train.minutes"}


def test_what_is_watched_saved_shared_out_and_searched_is_harmless() -> None:
    harmless = {path for path in PATHS if rule_of(path) == "harmless"}
    expected = {path for path in PATHS if path.startswith("search.")} | {f"train.{name}" for name in WATCHED}
    assert harmless == expected | {"name", "out", "data.train", "data.source", "data.target"}


def test_a_section_has_the_rule_of_all_that_is_in_it() -> None:
    assert rule_of("search") == "harmless"


@pytest.mark.parametrize("path", ["train.stepz", "nothing.here", "model.optimizer.kind"])
def test_what_is_no_setting_has_no_rule(path: str) -> None:
    with pytest.raises(KeyError):
        rule_of(path)
