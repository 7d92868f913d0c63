"""The labeller under the laws: rows, padding, mode, accumulation, round trips; and it sees the whole sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.loss import Tally, cross_entropy
from seqkit.models.build import build_labeller
from seqkit.models.encoders import RecurrentEncoder, TransformerEncoder
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.parallel.parameters import named_tensors
from seqkit.settings import LabellerSettings, RecurrentLabeller, TransformerLabeller
from seqkit.storage import checkpoint
from seqkit.storage.weights import load_strictly
from seqkit.text.vocabulary import EOS, SPECIAL_TOKENS

TOKENS, LABELS = 11, 7
FIRST = len(SPECIAL_TOKENS)
LENGTHS = (1, 6, 3, 4)  # `</s>` included: the first sentence has no tokens

recurrent = partial(RecurrentLabeller, width=7, embedding=5, dropout=0.0)
transformer = partial(TransformerLabeller, width=8, heads=2, feed_forward=12, layers=2, dropout=0.0)
MODELS: dict[str, LabellerSettings] = {
    "rnn": recurrent(cell="rnn"),
    "gru-deep": recurrent(cell="gru", layers=2),
    "lstm": recurrent(cell="lstm"),
    "lstm-ahead": recurrent(cell="lstm", bidirectional=False, layers=2),
    "transformer": transformer(),
    "transformer-post": transformer(norm="post", activation="gelu"),
    "transformer-learned": transformer(positions="learned", maximum_positions=64),
    "transformer-rotary": transformer(positions="rotary", activation="swiglu"),
}
every_model = pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def make(settings: LabellerSettings, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> SequenceLabeller:
    """A model in evaluation mode, with noise on every weight: biases begin at zero, where mistakes do not show."""
    torch.manual_seed(seed)
    model = build_labeller(settings, tokens=TOKENS, labels=LABELS)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype).eval()


def sources(*lengths: int, seed: int = 1) -> Padded:
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.randint(FIRST, TOKENS, (length - 1,), generator=generator).tolist() for length in lengths)
    return pad([[*row, EOS] for row in rows])


def targets_of(source: Padded) -> Padded:
    """Random labels; `</s>` has none."""
    ids = torch.randint(FIRST, LABELS, source.ids.shape, generator=torch.Generator().manual_seed(2))
    places = torch.arange(source.ids.shape[1])
    return Padded(ids, places < source.mask.sum(1, keepdim=True) - 1)


def chosen(padded: Padded, rows: Tensor) -> Padded:
    return Padded(padded.ids[rows], padded.mask[rows])


def widened(padded: Padded, columns: int) -> Padded:
    """More columns, and random ids wherever there is padding."""
    shape = len(padded.ids), padded.ids.shape[1] + columns
    ids = torch.randint(0, LABELS, shape, generator=torch.Generator().manual_seed(5))
    mask = F.pad(padded.mask, (0, columns))
    ids[mask] = padded.ids[padded.mask]
    return Padded(ids, mask)


def measured(model: SequenceLabeller, source: Padded, targets: Padded) -> tuple[Tensor, ...]:
    """Objective, negative log-likelihood, count and all gradients."""
    tally = tally_of(model, source, targets)
    gradients = torch.autograd.grad(tally.objective, list(model.parameters()))
    return (tally.objective.detach(), tally.nll.detach(), tally.tokens, *gradients)


def tally_of(model: SequenceLabeller, source: Padded, targets: Padded) -> Tally:
    return cross_entropy(model.features(source), model.output, targets, smoothing=0.1)


@every_model
def test_shapes(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    assert model.features(source).shape == (4, 6, settings.width)
    assert model(source).shape == (4, 6, LABELS)
    close(model(source), model.output(model.features(source)))


@every_model
def test_permuted_sentences_have_permuted_labels(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        moved, logits = model(chosen(source, order)), model(source)
    close(moved[source.mask[order]], logits[order][source.mask[order]])


@every_model
@pytest.mark.parametrize("columns", [0, 1, 9])
def test_padding_changes_no_logits(settings: LabellerSettings, columns: int) -> None:
    """Each sentence beside the others is what it is alone, whatever stands in the padding."""
    model, source = make(settings), sources(*LENGTHS)
    wide = widened(source, columns)
    with torch.no_grad():
        logits = model(wide)
        for row, length in enumerate(LENGTHS):
            alone = Padded(source.ids[row : row + 1, :length], source.mask[row : row + 1, :length])
            close(logits[row, :length], model(alone)[0])


@every_model
def test_padding_changes_neither_loss_nor_gradient(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    targets = targets_of(source)
    close(measured(model, widened(source, 5), widened(targets, 5)), measured(model, source, targets))


@every_model
def test_the_law_notices_a_mask_that_was_left_out(settings: LabellerSettings) -> None:
    if isinstance(settings, RecurrentLabeller) and not settings.bidirectional:
        pytest.skip("what reads in one direction meets padding only after the last token")
    model, source = make(settings), sources(*LENGTHS)
    wide = widened(source, 3)
    with torch.no_grad(), pytest.raises(AssertionError):
        close(model(Padded(wide.ids, wide.mask | True))[wide.mask], model(source)[source.mask])


@every_model
def test_without_dropout_both_modes_agree(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    assert torch.equal(model.train()(source), model.eval()(source))


@every_model
def test_dropout_works_in_training_only(settings: LabellerSettings) -> None:
    model, source = make(msgspec.structs.replace(settings, dropout=0.5)), sources(*LENGTHS)
    before = torch.get_rng_state()
    expected = model(source)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(AssertionError):
        close(model.train()(source), expected)


def test_a_recurrent_labeller_drops_before_the_output_too() -> None:
    for settings, share in ((recurrent(dropout=0.5), 0.5), (transformer(dropout=0.5), 0.0)):
        model = make(settings).train()
        model.encoder.eval()
        hidden = model.features(sources(60))
        assert (hidden == 0).double().mean().item() == pytest.approx(share, abs=0.1)


@every_model
def test_the_parts_of_a_batch_have_its_gradient(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    targets = targets_of(source)
    whole = measured(model, source, targets)
    for cut in (1, 2, 3):
        halves = [
            measured(model, chosen(source, rows), chosen(targets, rows))
            for rows in (torch.arange(cut), torch.arange(cut, 4))
        ]
        close(tuple(a + b for a, b in zip(*halves, strict=True)), whole)


@every_model
def test_sentences_that_count_nowhere_add_nothing(settings: LabellerSettings) -> None:
    """No NaN and no gradient from a sentence without tokens, which has only its `</s>`."""
    model, source = make(settings), sources(1)
    targets = targets_of(source)
    assert not targets.mask.any()
    assert all(bool((part == 0).all()) for part in measured(model, source, targets))


@every_model
def test_the_loss_is_that_of_the_logits(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    targets = targets_of(source)
    by_hand = F.cross_entropy(
        model(source)[targets.mask], targets.ids[targets.mask], label_smoothing=0.1, reduction="sum"
    )
    close(tally_of(model, source, targets).objective, by_hand)


@every_model
def test_a_checkpoint_gives_back_the_model(settings: LabellerSettings, tmp_path: Path) -> None:
    model, other = (make(settings, seed=seed, dtype=torch.float32) for seed in (0, 1))
    checkpoint.save(tmp_path, 7, tensors={"model": named_tensors(model)}, training={}, codec="none")
    load_strictly(other, checkpoint.read(checkpoint.step_path(tmp_path, 7)).tensors("model"))
    with torch.no_grad():
        assert torch.equal(other(sources(*LENGTHS)), model(sources(*LENGTHS)))


@every_model
def test_a_label_depends_on_words_before_and_after(settings: LabellerSettings) -> None:
    """`</s>`, the last, is not counted: a one-way reader sees nothing of what follows."""
    model, source = make(settings), sources(5)
    with torch.no_grad():
        for changed in range(4):
            other = source.ids.clone()
            other[0, changed] = FIRST + (other[0, changed] - FIRST + 1) % (TOKENS - FIRST)
            moved = (model(Padded(other, source.mask)) - model(source)).abs().amax(2)[0, :4] > 1e-9
            ahead_only = isinstance(settings, RecurrentLabeller) and not settings.bidirectional
            assert moved.tolist() == [place >= changed or not ahead_only for place in range(4)]


@every_model
def test_special_tokens_are_no_labels(settings: LabellerSettings) -> None:
    model, source = make(settings), sources(*LENGTHS)
    with torch.no_grad():
        model.output.bias[:FIRST] = 1e3
        found = model.predict(source)
        best = model(source)[:, :, FIRST:].max(2).values
    assert found.shape == source.ids.shape
    assert bool((found >= FIRST).all())
    close(model(source).gather(2, found[:, :, None])[:, :, 0], best)


@every_model
def test_the_seed_decides_the_weights(settings: LabellerSettings) -> None:
    def fresh(seed: int) -> Tensor:
        torch.manual_seed(seed)
        model = build_labeller(settings, tokens=TOKENS, labels=LABELS)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(fresh(1), fresh(1))
    assert not torch.equal(fresh(1), fresh(2))


def test_sizes_and_kinds_are_those_asked_for() -> None:
    model = build_labeller(RecurrentLabeller(cell="gru", width=10, layers=3, embedding=6), tokens=12, labels=8)
    assert isinstance(model.encoder, RecurrentEncoder)
    assert isinstance(make(transformer()).encoder, TransformerEncoder)
    assert model.encoder.embedding.weight.shape == (12, 6)
    assert model.output.weight.shape == (8, 10)
    assert [isinstance(layer, torch.nn.GRU) for layer in model.encoder.stack.forwards] == [True] * 3
    assert len(model.encoder.stack.backwards) == 3


CHANGES: list[tuple[LabellerSettings, dict[str, object]]] = [
    (recurrent(), {"cell": "gru", "width": 8, "layers": 2, "bidirectional": False, "embedding": 6, "dropout": 0.5}),
    (
        transformer(positions="learned"),
        {
            "width": 12,
            "layers": 1,
            "heads": 4,
            "feed_forward": 16,
            "activation": "gelu",
            "norm": "post",
            "positions": "rotary",
            "maximum_positions": 20,
            "dropout": 0.5,
            "attention_dropout": 0.5,
        },
    ),
]


@pytest.mark.parametrize(("settings", "changes"), CHANGES, ids=["recurrent", "transformer"])
def test_every_setting_is_heard(settings: LabellerSettings, changes: dict[str, object]) -> None:
    assert set(changes) == set(settings.__struct_fields__)

    def loss(settings: LabellerSettings) -> Tensor:
        source = sources(*LENGTHS)
        return tally_of(make(settings).train(), source, targets_of(source)).objective

    assert loss(settings) == loss(settings)
    for name, value in changes.items():
        assert loss(settings) != loss(msgspec.structs.replace(settings, **{name: value})), name
