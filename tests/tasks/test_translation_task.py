"""Translation: what is read, what is left out, and how a model is validated."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from seqkit.batch import pad
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.processes import Processes
from seqkit.runs.network import build_model
from seqkit.search.forced_score import forced_scores
from seqkit.search.hypothesis import EOS
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
