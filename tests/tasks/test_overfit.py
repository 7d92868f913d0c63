"""A few pairs are learnt by heart, and then written down without help: a low loss alone could be a leak."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqkit.batch import Batch
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.models.build import Sizes, build_translation
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.search.beam import beam
from seqkit.settings import AdamW, Constant, Mixed, Plain, Recurrent, Search, Transformer, TranslationSettings
from seqkit.training.objective import Objective
from seqkit.training.optimizers import build_optimizers
from seqkit.training.trainer import Trainer
from tests.support.training import NoStream, group_of

pytestmark = pytest.mark.slow
STEPS = 300
VOCABULARY = 12
KINDS: dict[str, TranslationSettings] = {
    "transformer-pre": Transformer(width=32, heads=2, feed_forward=64, encoder_layers=1, decoder_layers=1, dropout=0.0),
    "transformer-post-rotary": Transformer(
        width=32,
        heads=2,
        feed_forward=64,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.0,
        norm="post",
        positions="rotary",
        activation="swiglu",
    ),
    "recurrent": Recurrent(width=32, embedding=32, dropout=0.0),
    "recurrent-feeding": Recurrent(width=32, embedding=32, cell="lstm", input_feeding=True, dropout=0.0),
    "plain": Plain(width=64, embedding=32, dropout=0.0),
    "mixed": Mixed(width=32, heads=2, feed_forward=64, encoder_layers=1, dropout=0.0),
}


def pairs() -> tuple[list[list[int]], list[list[int]]]:
    """Eight sources and targets that have nothing to do with each other."""
    random = np.random.default_rng(0)
    source, target = (
        [random.integers(3, VOCABULARY, size=length).tolist() for length in random.integers(2, 8, size=8)]
        for _ in range(2)
    )
    return source, target


def learnt(settings: TranslationSettings, *, shift: bool = True) -> tuple[EncoderDecoder, float, Batch]:
    """A model after three hundred steps over one batch, and its loss; without `shift` it reads what it must say."""
    torch.manual_seed(0)
    model = build_translation(settings, Sizes(VOCABULARY, VOCABULARY, joint=True))
    source, target = map(Encoded.from_lists, pairs())
    batch = translation_batch(source, target, np.arange(8))
    if not shift:
        batch = Batch(batch.source, batch.targets.ids, batch.targets)
    trainer = Trainer(
        objective=Objective(model, smoothing=0.0),
        optimizers=build_optimizers(AdamW(), dict(model.named_parameters()), rate=5e-3, matrices=()),
        schedule=Constant(warmup=20),
        stream=NoStream(),
        callbacks=[],
        seed=1,
        clip=1.0,
    )
    trainer.objective.train()
    for _ in range(STEPS):
        step = trainer.step(group_of(batch))
    return model.eval(), step.tally.loss, batch


def spoken(model: EncoderDecoder, batch: Batch) -> list[list[int]]:
    return [list(found[0].ids) for found in beam(model, batch.source, Search(beam=1, maximum_length=12))]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learnt_by_heart_is_said_without_help(kind: str) -> None:
    model, loss, batch = learnt(KINDS[kind])
    assert loss < 0.05
    assert spoken(model, batch) == pairs()[1]


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_shift_the_loss_is_low_and_the_words_are_wrong(kind: str) -> None:
    model, loss, batch = learnt(KINDS[kind], shift=False)
    assert loss < 0.05
    assert spoken(model, batch) != pairs()[1]
