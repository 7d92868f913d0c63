"""A run that goes on with other settings: what is taken, what is refused, and what becomes of the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from seqkit.config import build
from seqkit.demo import reverse
from seqkit.errors import ConfigError, DataError
from seqkit.runs.session import train
from seqkit.settings import LinearDecay, Recipe
from seqkit.training.reading import BatchGroup
from seqkit.training.schedule import factor
from seqkit.training.trainer import Trainer, Update
from tests.support.sessions import events, progress, refused, same, stopped

LINEAR = LinearDecay(warmup=0)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """Every step of every run of the test."""
    found: list[Update] = []
    original = Trainer.step

    def step(self: Trainer, group: BatchGroup) -> Update:
        found.append(original(self, group))
        return found[-1]

    monkeypatch.setattr(Trainer, "step", step)
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    pairs = reverse(36, seed=1)
    for name, part in (("train", pairs[:30]), ("dev", pairs[30:])):
        (tmp_path / name).write_text("".join(f"{one}\t{other}\n" for one, other in part), encoding="utf-8")
    return tmp_path


def recipe(corpus: Path, *, data: str = "train", **settings: Any) -> Recipe:
    fixed = {
        "steps": 6,
        "batch_tokens": 64,
        "schedule": {"kind": "linear", "warmup": 0},
        "validate_every": 1000,
        "processes": 1,
        "precision": "float32",
        "output_precision": "float32",
        "keep_heap": False,
        "keep": 100,
    }
    return build(
        {
            "data": {"train": [str(corpus / data)], "dev": [str(corpus / "dev")]},
            "text": {"kind": "words", "split": "spaces"},
            "model": {"kind": "plain", "width": 8, "embedding": 8, "dropout": 0.0},
            "train": {**fixed, **settings},
        },
        where="the test",
    )


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("limits", "words"),
    [({"steps": 12}, ("train.steps = 6", "it is 12")), ({"epochs": 9}, ("train.epochs = None", "it is 9"))],
    ids=["steps", "epochs"],
)
def test_another_limit_is_refused_where_the_rate_falls_towards_it(
    corpus: Path, kind: str, limits: dict[str, Any], words: tuple[str, str]
) -> None:
    train(recipe(corpus, schedule=kind), out=corpus / "run", device="cpu")
    refused(recipe(corpus, schedule=kind, **limits), corpus / "run", ConfigError, *words, "--extend")


def test_where_it_is_wished_the_rate_goes_on_towards_the_new_limit_and_the_log_says_so(
    corpus: Path, steps: list[Update]
) -> None:
    stopped(recipe(corpus), corpus / "run", at=4)
    train(recipe(corpus, steps=12), out=corpus / "run", device="cpu", extend=True)
    rates = [factor(LINEAR, step, horizon=6) for step in range(4)]
    rates += [factor(LINEAR, step, horizon=12) for step in range(4, 12)]
    assert [step.rate for step in steps] == pytest.approx(rates)
    [told] = [event for event in events(corpus / "run", "horizon") if "before" in event]
    assert (told["step"], told["before"], told["horizon"], told["attempt"]) == (4, 6, 12, 2)
    assert events(corpus / "run", "resume")[0]["changed"] == {"train.steps": [6, 12]}


def test_a_complete_run_is_extended_too(corpus: Path, steps: list[Update]) -> None:
    train(recipe(corpus), out=corpus / "run", device="cpu")
    train(recipe(corpus, steps=9), out=corpus / "run", device="cpu", extend=True)
    assert [step.rate for step in steps[6:]] == pytest.approx([3 / 9, 2 / 9, 1 / 9])


def test_an_extended_run_needs_no_leave_to_go_on(corpus: Path) -> None:
    """Also where it stopped before it had saved anything under its new limit."""
    longer = recipe(corpus, steps=12)
    for name in ("straight", "stopped"):
        stopped(recipe(corpus), corpus / name, at=4)
    train(longer, out=corpus / "straight", device="cpu", extend=True)
    with patch.object(Trainer, "step", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        train(longer, out=corpus / "stopped", device="cpu", extend=True)
    stopped(longer, corpus / "stopped", at=8)
    train(longer, out=corpus / "stopped", device="cpu")
    same(corpus / "stopped", corpus / "straight")


def test_leave_that_is_not_needed_changes_nothing(corpus: Path) -> None:
    train(recipe(corpus), out=corpus / "straight", device="cpu")
    stopped(recipe(corpus), corpus / "run", at=4)
    train(recipe(corpus), out=corpus / "run", device="cpu", extend=True)
    same(corpus / "run", corpus / "straight")
    assert [event for event in events(corpus / "run", "horizon") if "before" in event] == []


def test_the_estimated_end_of_a_run_limited_by_time_stays_when_it_goes_on(corpus: Path, steps: list[Update]) -> None:
    settings = recipe(corpus, steps=None, minutes=60, validate_every=2)
    stopped(settings, corpus / "run", at=3)
    horizon = progress(corpus / "run").horizon
    assert horizon is not None
    stopped(settings, corpus / "run", at=4)
    assert steps[-1].rate == pytest.approx(factor(LINEAR, 3, horizon=horizon), rel=1e-9)
    assert [event for event in events(corpus / "run", "horizon") if "before" in event] == []


def test_a_harmless_setting_is_taken_and_logged(corpus: Path) -> None:
    stopped(recipe(corpus), corpus / "run", at=4)
    train(recipe(corpus, log_seconds=7.0, keep=5, validate_every=3), out=corpus / "run", device="cpu")
    assert progress(corpus / "run").stop == "steps"
    changed = {"train.validate_every": [1000, 3], "train.keep": [100, 5], "train.log_seconds": [30.0, 7.0]}
    assert events(corpus / "run", "resume")[0]["changed"] == changed


def test_files_may_move_but_not_change(corpus: Path) -> None:
    stopped(recipe(corpus), corpus / "run", at=4)
    (corpus / "train").rename(corpus / "moved")
    (corpus / "other").write_text("a b\tb a\n", encoding="utf-8")
    refused(recipe(corpus, data="other"), corpus / "run", DataError, "training data changed since step 4")
    train(recipe(corpus, data="moved"), out=corpus / "run", device="cpu")
    assert progress(corpus / "run").stop == "steps"


@pytest.mark.parametrize(
    ("first", "then", "reason"),
    [
        ({"patience": 2}, {"patience": 4}, "patience"),
        ({"metric": "loss", "target": 1000.0}, {"metric": "loss", "target": 1e-6}, "steps"),
    ],
    ids=["patience", "target"],
)
def test_more_patience_or_a_higher_target_takes_a_complete_run_further(
    corpus: Path, first: dict[str, Any], then: dict[str, Any], reason: str
) -> None:
    fixed = {"steps": 8, "validate_every": 1, "learning_rate": 1e-12, "metric": "chrf"}
    short = train(recipe(corpus, **{**fixed, **first}), out=corpus / "run", device="cpu")
    assert short.stop == next(iter(first.keys() - {"metric"}))
    longer = train(recipe(corpus, **{**fixed, **then}), out=corpus / "run", device="cpu")
    assert longer.step > short.step
    assert longer.stop == reason


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_go_on_where_one_stopped_with_another_limit(corpus: Path, steps: list[Update]) -> None:
    """What each step reads is the same, whoever reads it."""
    losses = []
    for processes in (1, 2):
        run = corpus / str(processes)
        stopped(recipe(corpus), run, at=4)
        steps.clear()
        train(recipe(corpus, steps=9, processes=processes), out=run, device="cpu", extend=True)
        losses.append([step.tally.loss for step in steps])
        assert [step.rate for step in steps] == pytest.approx([(9 - step) / 9 for step in range(4, 9)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert progress(corpus / "1").tokens == progress(corpus / "2").tokens
