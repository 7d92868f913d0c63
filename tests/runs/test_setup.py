"""A trainer is set up from its last checkpoint, unless another text layer or other data made that."""

from __future__ import annotations

from pathlib import Path

import msgspec

from seqkit.errors import DataError, ModelError
from seqkit.runs.session import train
from tests.support.sessions import (
    Seen,
    progress,
    refused,
    same_tensors,
    toy_recipe,
)


def test_a_raised_limit_takes_a_complete_run_further(corpus: Path, seen: list[Seen]) -> None:
    """Twenty steps straight are nine, complete, and eleven more: the rate of this schedule knows no end."""
    train(toy_recipe(corpus), out=corpus / "straight", device="cpu")
    straight = [*seen]
    seen.clear()
    for steps in (9, 20):
        train(toy_recipe(corpus, steps=steps), out=corpus / "raised", device="cpu")
    assert seen == straight
    same_tensors(corpus / "raised", corpus / "straight")


def test_changed_data_are_refused(corpus: Path) -> None:
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    with (corpus / "train.tsv").open("a", encoding="utf-8") as stream:
        stream.write("a b\tb a\n")
    refused(toy_recipe(corpus, steps=4), corpus / "run", DataError, "training data changed since step 2")


def test_changed_data_are_taken_when_that_is_wished_and_the_epoch_begins_anew(corpus: Path, seen: list[Seen]) -> None:
    train(toy_recipe(corpus, steps=10), out=corpus / "run", device="cpu")  # three steps into the second epoch
    half = progress(corpus / "run")
    assert (half.epoch, half.position) == (1, 3)
    text = (corpus / "train.tsv").read_text(encoding="utf-8").splitlines()
    (corpus / "train.tsv").write_text("".join(f"{line}\n" for line in text[:30]), encoding="utf-8")
    seen.clear()
    settings = toy_recipe(corpus, steps=None, epochs=2)
    train(settings, out=corpus / "run", device="cpu", allow_data_change=True)
    read = [pair for step in seen for pair in step.pairs]
    assert len(read) == len(set(read)) == 30  # all of the new text, once
    assert progress(corpus / "run").stop == "epochs"
    assert "the training data changed: epoch 2 begins anew" in (corpus / "run" / "log.jsonl").read_text(
        encoding="utf-8"
    )
    train(settings, out=corpus / "run", device="cpu")  # what was allowed once is what the run goes by from then on


def test_the_best_score_is_forgotten_when_that_is_wished(corpus: Path) -> None:
    train(toy_recipe(corpus, steps=4, validate_every=2, metric="loss", save_every=2), out=corpus / "run", device="cpu")
    first = progress(corpus / "run")
    assert first.best is not None
    longer = toy_recipe(corpus, steps=6, validate_every=2, metric="loss", save_every=2)
    train(longer, out=corpus / "run", device="cpu", reset_best=True)
    again = progress(corpus / "run")
    assert again.best_step == 6
    told = (corpus / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert f"the best score so far, {first.best} at step {first.best_step}, is forgotten" in told


def test_patience_that_was_used_up_begins_anew_with_the_best(corpus: Path) -> None:
    constant = {"kind": "constant"}
    stopping = toy_recipe(
        corpus, steps=30, learning_rate=1e-12, validate_every=1, metric="chrf", patience=2, schedule=constant
    )
    assert train(stopping, out=corpus / "run", device="cpu").stop == "patience"
    at = progress(corpus / "run").step
    assert train(stopping, out=corpus / "run", device="cpu").step == at  # it is complete
    assert train(stopping, out=corpus / "run", device="cpu", reset_best=True).step == at + 3


def test_a_changed_text_layer_is_refused(corpus: Path) -> None:
    train(toy_recipe(corpus, steps=2), out=corpus / "run", device="cpu")
    other = toy_recipe(corpus, steps=1)
    smaller = msgspec.structs.replace(other, text=msgspec.structs.replace(other.text, size=15))
    train(smaller, out=corpus / "other", device="cpu")
    (corpus / "run" / "codec").rename(corpus / "aside")
    (corpus / "other" / "codec").rename(corpus / "run" / "codec")
    refused(toy_recipe(corpus, steps=4), corpus / "run", ModelError, "another text layer")
