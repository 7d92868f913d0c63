"""A model anywhere but on the CPU calculates the same, and no tensor of its work is left behind on the CPU.

`elsewhere.SecondDevice` stands for a GPU, so that this is known of every model in any machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkit.batch import Batch, Padded
from seqkit.data.datasets import Encoded
from seqkit.engine.batch_labels import label_batches
from seqkit.engine.batch_search import search_batches
from seqkit.engine.fused_transformer import FusedTransformer, fused
from seqkit.engine.search_engine import Constraints
from seqkit.engine.token_scores import (
    Blocks,
    Context,
    dynamic_log_probs,
    pair_log_probs,
    token_features,
    token_log_probs,
)
from seqkit.models.build import build_labeller, build_language_model
from seqkit.models.ensemble import Ensemble
from seqkit.models.language_model import LanguageModel
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.search.beam import beam
from seqkit.search.hypothesis import BOS
from seqkit.search.rules import Ban, BanPhrases, Fusion, Rule
from seqkit.search.sample import sample
from seqkit.settings import (
    Constant,
    Model,
    RecurrentLabeller,
    Search,
    Transformer,
    TransformerLabeller,
    TransformerLanguageModel,
)
from seqkit.state import map_state
from seqkit.training.labelling_objective import LabellingObjective
from seqkit.training.muon import Muon
from seqkit.training.objective import Objective
from seqkit.training.precision import Precision
from seqkit.training.trainer import Trainer
from tests.support.elsewhere import ELSEWHERE, AnyModule, Elsewhere, SecondDevice, elsewhere
from tests.support.models import (
    DECODABLES,
    FIRST,
    MODELS,
    TARGET,
    batch_for,
    close,
    every_decodable,
    every_model,
    make,
    sources,
    tried,
)
from tests.support.training import NoStream, group_of

CPU = torch.device("cpu")
READ: Sequence[list[int]] = ([4, 5, 6, 7], [8], [], [5, 5, 4])  # as sources, as prompts, and as lines to score
LINES = Encoded.from_lists(READ)


@pytest.fixture(autouse=True)
def second_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Tensors that stand for others keep count of changes, which those of the inference mode do not.
    for verb in ("start", "advance"):
        monkeypatch.setattr(FusedTransformer, verb, torch.no_grad()(inspect.unwrap(getattr(FusedTransformer, verb))))
    with SecondDevice():
        yield


def on(device: torch.device, module: AnyModule) -> AnyModule:
    return module if device == CPU else elsewhere(module)


def trainer_of(objective: Objective, device: torch.device) -> Trainer:
    """Both kinds of optimizer: our own, and one of torch's that needs no kernels for the device."""
    parameters = list(objective.parameters())
    matrices = [each for each in parameters if each.ndim == 2]
    others = [each for each in parameters if each.ndim != 2]
    optimizers = [Muon(matrices, lr=0.02), torch.optim.RMSprop(others, lr=0.01)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base"] = group["lr"]
    return Trainer(
        objective=objective,
        optimizers=optimizers,
        schedule=Constant(),
        stream=NoStream(),
        callbacks=[],
        seed=1,
        clip=0.5,
        device=device,
    )


@every_model
def test_training(settings: Model) -> None:
    train_on_both(settings, products=None, tolerance=1e-5)


@pytest.mark.parametrize("name", ["transformer-pre", "language-lstm"])
def test_training_with_a_narrow_loss(name: str) -> None:
    train_on_both(MODELS[name], products=torch.bfloat16, tolerance=2e-3)  # each device adds up in its own order


def train_on_both(settings: Model, *, products: torch.dtype | None, tolerance: float) -> None:
    """Two steps on each device: the first has the same gradients, and after the second the weights are alike."""
    slopes, weights = [], []
    for device in (CPU, ELSEWHERE):
        model = on(device, make(settings, dtype=torch.float32))
        trainer = trainer_of(Objective(model, smoothing=0.1, precision=Precision(output=products)), device)
        vector = trainer.reader.vector
        assert vector is not None
        group = group_of(batch_for(model), batch_for(model))
        trainer.step(group)
        slopes.append(vector.cpu().clone())
        trainer.step(group)
        assert all(parameter.device == device for parameter in model.parameters())
        assert isinstance(vector, Elsewhere) == (device == ELSEWHERE)
        weights.append(torch.cat([part.detach().cpu().flatten() for part in model.parameters()]))
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-4, atol=tolerance)
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0.01)  # Muon makes much of a last bit


@every_decodable
def test_search(settings: Model) -> None:
    model, source = make(settings), sources(5, 2, 4)
    searches: list[tuple[Search, Sequence[Rule]]] = [
        (Search(beam=3, nbest=3, maximum_length=5), []),
        (Search(beam=1, maximum_length=5, no_repeat=2), [Ban((FIRST,))]),
        (Search(beam=4, groups=2, maximum_length=4, repetition_penalty=1.5), [BanPhrases(((4, 5), (6,)))]),
    ]
    expected = [beam(fused(model), source, search, rules=rules) for search, rules in searches]
    model = elsewhere(model)
    for (search, rules), known in zip(searches, expected, strict=True):
        for moved in {model, fused(model)}:  # one and the same, but for a Transformer
            found = beam(moved, source.to(ELSEWHERE), search, rules=rules)
            assert [[each.ids for each in row] for row in found] == [[each.ids for each in row] for row in known]
            close(
                torch.tensor([each.log_prob for row in found for each in row]),
                torch.tensor([each.log_prob for row in known for each in row]),
            )


def test_search_in_a_narrow_arithmetic() -> None:
    stepper = fused(elsewhere(make(Transformer(width=8, heads=2, feed_forward=12))), products=torch.bfloat16)
    assert all(row[0].ids for row in beam(stepper, sources(5, 2).to(ELSEWHERE), Search(beam=2, maximum_length=5)))


def test_search_with_all_that_can_be_asked_of_it() -> None:
    models = [make(Transformer(width=8, heads=2, feed_forward=12), seed=seed) for seed in (1, 2)]
    speaker = build_language_model(TransformerLanguageModel(width=8, heads=2, feed_forward=8), TARGET).double().eval()
    bounds = torch.ones(TARGET, dtype=torch.bool)
    terms = [[[[7, 8], [8]], [[5]]], [], [], [[[6]]]]
    found = []
    for device in (CPU, ELSEWHERE):
        both = fused(Ensemble([on(device, model) for model in models]))
        rules: list[Rule] = [Fusion(on(device, speaker), 0.3, (BOS,), device)]
        wishes = Constraints(prefixes=[[7], [], [], [4, 4]], terms=terms, word_boundaries=bounds, rules=rules)
        plain = Constraints(prefixes=wishes.prefixes, rules=rules)
        for search, wish in (
            (Search(beam=3, maximum_length=4), wishes),
            (Search(beam=2, maximum_length=4), plain),
            (Search(method="sample", nbest=3, nucleus=0.8, top_k=4, maximum_length=4), plain),
        ):
            rows = search_batches(both, READ, search, device=device, constraints=wish)
            found.append([[hypothesis.ids for hypothesis in row] for row in rows])
    assert found[:3] == found[3:]


@tried({name: settings for name, settings in DECODABLES.items() if name.startswith(("language", "ngram"))})
def test_drawing_and_searching_without_a_source(settings: Model) -> None:
    model = make(settings)
    draws = Search(maximum_length=6, nucleus=0.9, minimum_length=2)
    search = Search(beam=3, maximum_length=6)
    prompts = [[BOS, *line] for line in READ]
    drawn, found = sample(model, prompts, search=draws, context=5), beam(model, None, search, prompt=(BOS, 4))
    model = elsewhere(model)
    again = sample(fused(model), prompts, search=draws, context=5, device=ELSEWHERE)
    assert [each.ids for each in again] == [each.ids for each in drawn]
    with ELSEWHERE:
        [best] = beam(fused(model), None, search, prompt=(BOS, 4))
    assert best[0].ids == found[0][0].ids


@every_decodable
def test_scoring(settings: Model) -> None:
    scores: list[list[NDArray[np.floating]]] = []
    for device in (CPU, ELSEWHERE):
        model = on(device, make(settings))
        if isinstance(model, EncoderDecoder):
            scores.append([pair_log_probs(model, LINES, LINES, device=device, budget=8)])
            continue
        contexts: list[Context] = ["lines", "whole", Blocks(4, 2)]
        scores.append([token_log_probs(model, LINES, context, device=device, budget=8) for context in contexts])
        if isinstance(model, LanguageModel):
            scores[-1].append(token_features(model, LINES, "whole", device=device, budget=8))
            scores[-1].append(dynamic_log_probs(model, LINES, "whole", rate=0.1, segment=4, device=device))
    for one, other in zip(*scores, strict=True):
        close(torch.from_numpy(other), torch.from_numpy(one))


@pytest.mark.parametrize(
    "settings",
    [
        RecurrentLabeller(width=6, embedding=5, dropout=0.0),
        TransformerLabeller(width=8, heads=2, feed_forward=12, layers=1, dropout=0.0),
    ],
    ids=["recurrent", "transformer"],
)
def test_labelling(settings: RecurrentLabeller | TransformerLabeller) -> None:
    torch.manual_seed(0)
    labeller: SequenceLabeller = build_labeller(settings, tokens=TARGET, labels=7)
    found, sums = [], []
    for device in (CPU, ELSEWHERE):
        labeller = on(device, labeller).eval()
        found.append(label_batches(labeller, LINES, longest=3, device=device).ids.tolist())
        source = sources(4, 2, 5)
        batch = Batch(source, None, Padded(source.ids.clamp(max=6), source.mask)).to(device)
        tally, _ = LabellingObjective(labeller, smoothing=0.1)(batch)
        sums.append(float(tally.objective.detach()))
    assert found[0] == found[1]
    assert sums[1] == pytest.approx(sums[0], rel=1e-5)


def test_a_tensor_left_on_the_cpu_is_noticed() -> None:
    there = torch.ones(2, 3).to(ELSEWHERE)
    mixed: tuple[Callable[[], Tensor], ...] = (
        lambda: there + torch.ones(3),
        lambda: torch.ones(4)[there[:, 0].long()],
        lambda: there[torch.arange(1)],
    )
    for mistake in mixed:
        with pytest.raises(RuntimeError, match=r"meets one that is elsewhere|device"):
            mistake()
    assert map_state(lambda part: part + 1, (there,))[0].tolist() == [[2.0] * 3] * 2
