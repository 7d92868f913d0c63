"""Law 3: columns of padding change nothing, whatever ids they hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.batch import Batch, Padded
from seqkit.models.decoders import PlainDecoder
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Model, TranslationSettings
from seqkit.training.objective import Objective
from tests.support.models import close, every_model, every_translation, logits, make, sources, tokens

LENGTHS = (1, 4, 6)


def widened(source: Padded, columns: int, *, seed: int = 5) -> Padded:
    """More columns, and random ids wherever there is padding."""
    ids = torch.randint(0, 9, (len(source.ids), source.ids.shape[1] + columns), generator=_random(seed))
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, : source.mask.shape[1]] = source.mask
    ids[mask] = source.ids[source.mask]
    return Padded(ids, mask)


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alone(model: EncoderDecoder, source: Padded, ids: Tensor) -> Tensor:
    """Each sentence without company and without padding."""
    rows = [
        logits(model, Padded(source.ids[i : i + 1, :length], source.mask[i : i + 1, :length]), ids[i : i + 1])
        for i, length in enumerate(source.mask.sum(1).tolist())
    ]
    return torch.cat(rows)


@every_translation
@pytest.mark.parametrize("columns", [0, 1, 7, 50])
def test_padding_changes_nothing(settings: TranslationSettings, columns: int) -> None:
    model, source, ids = make(settings), sources(*LENGTHS), tokens(3, 5)
    with torch.no_grad():
        expected = alone(model, source, ids)
        close(logits(model, widened(source, columns), ids), expected)
        wide = widened(source, columns)
        close(model.encoder(wide)[wide.mask], encoded_alone(model, source))
    close(logits(model.train(), widened(source, columns), ids), expected)


def encoded_alone(model: EncoderDecoder, source: Padded) -> Tensor:
    """The encoder's vectors at real positions, each sentence read alone, one sentence after the other."""
    rows = (ids[:length][None] for ids, length in zip(source.ids, source.mask.sum(1).tolist(), strict=True))
    return torch.cat([model.encoder(Padded(row, torch.ones_like(row) > 0))[0] for row in rows])


@every_translation
def test_padding_changes_no_more_than_rounding_in_float32(settings: TranslationSettings) -> None:
    model, source, ids = make(settings, dtype=torch.float32), sources(*LENGTHS), tokens(3, 5)
    with torch.no_grad():
        torch.testing.assert_close(
            logits(model, widened(source, 50), ids), alone(model, source, ids), rtol=1e-5, atol=1e-5
        )


@every_translation
def test_a_huge_embedding_of_padding_changes_nothing(settings: TranslationSettings) -> None:
    model, source, ids = make(settings), sources(*LENGTHS), tokens(3, 5)
    with torch.no_grad():
        model.encoder.embedding.weight[0] = 1e3
        narrow = Padded(widened(source, 0).ids, source.mask)
        narrow.ids[~source.mask] = 0
        close(logits(model, narrow, ids), alone(model, source, ids))


@every_translation
def test_a_real_token_with_the_lowest_id_is_read(settings: TranslationSettings) -> None:
    """Padding is known by lengths, never by an id."""
    model, source, ids = make(settings), sources(4), tokens(1, 5)
    with torch.no_grad():
        other = source.ids.clone()
        other[0, 1] = 0
        difference = logits(model, Padded(other, source.mask), ids) - logits(model, source, ids)
        shorter = Padded(source.ids[:, [0, 2, 3]], source.mask[:, 1:])
        without = logits(model, Padded(other, source.mask), ids) - logits(model, shorter, ids)
    assert difference.abs().max() > 1e-6
    assert without.abs().max() > 1e-6


@every_translation
def test_the_law_notices_a_mask_that_was_left_out(settings: TranslationSettings) -> None:
    model, source, ids = make(settings), sources(*LENGTHS), tokens(3, 5)
    wide = widened(source, 1)
    with torch.no_grad(), pytest.raises(AssertionError):
        close(logits(model, Padded(wide.ids, torch.ones_like(wide.mask)), ids), alone(model, source, ids))


@every_model
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_padding_changes_neither_loss_nor_gradient(settings: Model, smoothing: float) -> None:
    objective = Objective(make(settings), smoothing=smoothing).train()  # where penalties are added too
    source, inputs = sources(*LENGTHS), tokens(3, 5)
    mask = torch.tensor([5, 2, 4])[:, None] > torch.arange(5)
    narrow = Batch(source, inputs, Padded(inputs.roll(-1, 1), mask))
    more = torch.randint(0, 9, (3, 5), generator=_random(6))
    targets = Padded(torch.cat([narrow.targets.ids, more], 1), torch.cat([mask, torch.zeros(3, 5) > 0], 1))
    wide = Batch(widened(source, 5), torch.cat([inputs, more], 1), targets)
    close(measured(objective, wide), measured(objective, narrow))


def measured(objective: Objective, batch: Batch) -> tuple[Tensor, ...]:
    """Objective, negative log-likelihood, count and all gradients."""
    tally, _ = objective(batch)
    gradients = torch.autograd.grad(tally.objective, list(objective.parameters()))
    return (tally.objective.detach(), tally.nll.detach(), tally.tokens, *gradients)


@every_translation
def test_a_source_of_nothing_but_its_end_is_read_without_harm(settings: TranslationSettings) -> None:
    """No NaN, in outputs, alignment or gradients; alone and beside a longer one."""
    model = make(settings)
    objective = Objective(model, smoothing=0.1)
    for source in (sources(1), sources(1, 6)):
        rows = len(source.ids)
        inputs = tokens(rows, 1)
        batch = Batch(source, inputs, Padded(torch.full((rows, 1), 2), torch.ones(rows, 1) > 0))
        assert all(bool(part.isfinite().all()) for part in measured(objective, batch))
        if not isinstance(model.decoder, PlainDecoder):
            weights = model.alignment(source, inputs)
            close(weights.sum(2), torch.ones(rows, 1, dtype=torch.float64))
            assert (weights[0, :, 1:] == 0).all()


@every_model
def test_targets_that_count_nowhere_add_nothing(settings: Model) -> None:
    objective = Objective(make(settings), smoothing=0.1).train()
    batch = Batch(sources(4), tokens(1, 3), Padded(tokens(1, 3), torch.zeros(1, 3) > 0))
    assert all(bool((part == 0).all()) for part in measured(objective, batch))
