"""What may change between two attempts at a run is said of every setting."""

from __future__ import annotations

from seqkit.settings.resuming import RULES, rule_of
from seqkit.settings.schema import keys


def test_every_setting_says_whether_it_may_change() -> None:
    """A new setting belongs into the table; one that is gone, out of it."""
    assert sorted(RULES) == sorted({key.path for key in keys()})


def test_what_a_step_does_is_binding_and_what_comes_after_training_is_not() -> None:
    paths = {key.path for key in keys()}
    assert {rule_of(path) for path in paths if path.startswith(("model.", "text.", "train.optimizer."))} == {"binding"}
    assert {rule_of(path) for path in paths if path.startswith("search.")} == {"harmless"}
    assert {path for path in paths if rule_of(path) == "limit"} == {"train.steps", "train.epochs", "train.minutes"}
