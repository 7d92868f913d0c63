"""Parameters shared out over two processes: the steps of one, half of the memory, and checkpoints like any others."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqkit.batch import Batch
from seqkit.errors import ResourceError
from seqkit.models.build import Sizes, build
from seqkit.models.decoders import TransformerDecoder
from seqkit.parallel.parameters import named_tensors
from seqkit.parallel.processes import Processes
from seqkit.parallel.sharding import Replica, shard
from seqkit.parallel.shards import full_tensor, is_sharded, local_shard
from seqkit.settings import (
    SGD,
    Adam,
    AdamW,
    Mixed,
    Model,
    Optimizer,
    RecurrentLanguageModel,
    RMSprop,
    Train,
    Transformer,
    TransformerLanguageModel,
)
from seqkit.storage import checkpoint
from seqkit.training.callbacks import Averaging, StopRequest
from seqkit.training.moving_average import Average
from seqkit.training.objective import Objective
from seqkit.training.reading import BatchGroup
from seqkit.training.saving import Saving, restore
from seqkit.training.trainer import Callback, Trainer, Update
from tests.support.processes import Pair
from tests.support.training import (
    VOCABULARY,
    Crowded,
    Notes,
    Poisoned,
    StopAt,
    ToyStream,
    toy_group,
    toy_model,
    toy_trainer,
)

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "feed_forward": 12, "dropout": 0.0}
TRANSFORMER = Transformer(**SMALL, encoder_layers=2, decoder_layers=2, tied="all")
MODELS: dict[str, Model] = {
    "transformer": TRANSFORMER,
    "transformer-post": Transformer(**SMALL, encoder_layers=1, decoder_layers=1, norm="post", tied="none"),
    "mixed": Mixed(**SMALL, encoder_layers=2, cell="lstm"),
    "language": TransformerLanguageModel(**SMALL, layers=2),
    "language-lstm": RecurrentLanguageModel(width=7, embedding=6, layers=2),
    "empty-shares": RecurrentLanguageModel(cell="rnn", width=1, embedding=1),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("meeting") / "place")
    yield made
    made.close()


class Slice:
    """What one process reads of a group: every so many-th row of each batch."""

    def __init__(self, group: BatchGroup, processes: Processes, *, source: bool) -> None:
        rows = slice(processes.rank, None, processes.world)
        self.batches = [each.rows(torch.arange(len(each.targets.ids))[rows]) for each in group.batches]
        if not source:
            self.batches = [Batch(None, each.inputs, each.targets) for each in self.batches]
        self.tokens, self.padded, self.examples = group.tokens, group.padded, group.examples


class Slices(ToyStream):
    """The groups of `ToyStream`, in slices."""

    def __init__(self, processes: Processes, *, source: bool) -> None:
        super().__init__()
        self.processes, self.source = processes, source

    def largest(self, epoch: int) -> Any:
        return Slice(super().largest(epoch), self.processes, source=self.source)

    def groups(self, epoch: int, start: int = 0) -> Iterator[Any]:
        for group in super().groups(epoch, start):
            yield Slice(group, self.processes, source=self.source)


def objective_of(settings: Model, *, recompute: bool = False, wide: bool = True) -> Objective:
    torch.manual_seed(0)
    model: nn.Module = build(settings, Sizes(VOCABULARY, VOCABULARY, joint=True), recompute=recompute)
    return Objective(model.double() if wide else model, smoothing=0.1)


def trainer_of(
    settings: Model, processes: Processes, *callbacks: Callback, sharded: bool, **named: Any
) -> tuple[Trainer, nn.Module]:
    """A trainer, its parameters shared out if wished, and its model."""
    recompute, wide = named.pop("recompute", False), named.pop("wide", True)
    objective = objective_of(settings, recompute=recompute, wide=wide)
    if sharded:
        shard(objective, processes, CPU)
    stream = Slices(processes, source=not isinstance(settings, RecurrentLanguageModel | TransformerLanguageModel))
    made = toy_trainer(*callbacks, objective=objective, processes=processes, stream=stream, sharded=sharded, **named)
    return made, objective.model


def all_weights(model: nn.Module) -> Tensor:
    return torch.cat([full_tensor(tensor).flatten() for tensor in named_tensors(model).values()])


class Steps:
    """What three steps found, and the weights behind them."""

    def __init__(self, settings: Model, *, sharded: bool, **named: Any) -> None:
        self.settings, self.sharded, self.named = settings, sharded, named

    def __call__(self, processes: Processes) -> tuple[Tensor, Tensor]:
        notes = Notes()
        trainer, model = trainer_of(self.settings, processes, StopAt(3), notes, sharded=self.sharded, **self.named)
        trainer.rehearse()  # leaves no trace
        trainer.run()
        numbers = [
            [float(step.tally.objective), float(step.tally.nll), float(step.tally.tokens), step.norm]
            for step in notes.steps
        ]
        return torch.tensor(numbers, dtype=torch.float64), all_weights(model)


def check_steps(pair: Pair, settings: Model, *, rtol: float = 1e-9, atol: float = 1e-9, **named: Any) -> None:
    alone = Steps(settings, sharded=False, **named)(Processes())
    here, there = pair.both(Steps(settings, sharded=True, **named))
    assert all(map(torch.equal, here, there))
    torch.testing.assert_close(here, alone, rtol=rtol, atol=atol)


@pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)
def test_sharded_steps_are_those_of_one_process(pair: Pair, settings: Model) -> None:
    check_steps(pair, settings)


@pytest.mark.parametrize("clip", [0.05, None])
def test_clipping_sees_all_shares(pair: Pair, clip: float | None) -> None:
    check_steps(pair, TRANSFORMER, clip=clip, optimizer=SGD())


def test_layers_that_are_worked_out_again_are_whole_again(pair: Pair) -> None:
    check_steps(pair, TRANSFORMER, recompute=True)


@pytest.mark.parametrize(
    "optimizer", [AdamW(), SGD(momentum=0.9), RMSprop(momentum=0.5)], ids=lambda o: type(o).__name__
)
def test_every_optimizer_works_on_shares(pair: Pair, optimizer: Optimizer) -> None:
    check_steps(pair, TRANSFORMER, optimizer=optimizer)


def test_steps_are_the_same_in_float32(pair: Pair) -> None:
    """Where torch would rather scale in the exchange than sum."""
    check_steps(pair, TRANSFORMER, optimizer=SGD(), wide=False, rtol=1e-5, atol=1e-6)


def test_sharded_processes_make_the_steps_of_unsharded_ones(pair: Pair) -> None:
    here, _ = pair.both(Steps(TRANSFORMER, sharded=False))
    sharded, _ = pair.both(Steps(TRANSFORMER, sharded=True))
    torch.testing.assert_close(sharded, here, rtol=1e-9, atol=1e-9)


def held(processes: Processes) -> tuple[int, int, int, int]:
    """Elements of the parameters and of the optimizer's state on this process, after a step; and of all of them."""
    trainer, model = trainer_of(TRANSFORMER, processes, StopAt(1), sharded=True, optimizer=Adam())
    trainer.run()
    parameters = list(model.parameters())
    moments = [value for state in trainer.optimizers[0].state.values() for value in state.values() if value.ndim]
    return (
        sum(local_shard(tensor).numel() for tensor in parameters),
        sum(tensor.numel() for tensor in parameters),
        sum(local_shard(tensor).numel() for tensor in moments),
        sum(tensor.numel() for tensor in moments),
    )


def test_each_process_holds_about_half(pair: Pair) -> None:
    here, there = pair.both(held)
    _, all_parameters, _, all_moments = here
    assert all_moments == 2 * all_parameters
    assert [one + other for one, other in zip(here, there, strict=True)] == [
        all_parameters,
        2 * all_parameters,
        all_moments,
        2 * all_moments,
    ]
    assert 0.45 < here[0] / all_parameters < 0.55
    assert 0.45 < here[2] / all_moments < 0.55


def resident(processes: Processes) -> list[str]:
    """Whose parameters are whole on this process when all layers have done their part of a step."""
    trainer, model = trainer_of(TRANSFORMER, processes, StopAt(1), sharded=True)
    found: list[str] = []
    assert isinstance(model.decoder, TransformerDecoder)
    model.decoder.norm.register_forward_pre_hook(
        lambda *given: found.extend(name for name, tensor in model.named_parameters() if not is_sharded(tensor))
    )
    trainer.run()
    return found


def test_layers_are_whole_only_while_they_work(pair: Pair) -> None:
    here, there = pair.both(resident)
    assert here == there
    assert "encoder.embedding.weight" in here
    assert not [name for name in here if ".layers." in name]


def sharded_toy(objective: Objective, processes: Processes, *callbacks: Callback) -> Trainer:
    shard(objective, processes, CPU)
    return toy_trainer(*callbacks, objective=objective, processes=processes, sharded=True)


class Bad:
    """A gradient that is not finite in the second process only."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, processes: Processes) -> tuple[Any, ...]:
        bad = [0] if processes.rank == 1 else []
        objective = Poisoned(*bad, value=self.value)
        trainer = sharded_toy(objective, processes)
        before = all_weights(objective.model)
        step = trainer.step(toy_group(processes.rank))
        kept = torch.equal(all_weights(objective.model), before)
        again = trainer.step(toy_group(processes.rank))
        return step.updated, kept, again.updated, trainer.progress.skipped


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_all_skip_what_is_not_finite_in_one(pair: Pair, value: float) -> None:
    here, there = pair.both(Bad(value))
    assert here == there == (False, True, True, 1)


class WishIn(Callback):
    """The second process would like to stop."""

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.processes.rank == 1 and trainer.progress.step == 3:
            trainer.stop_reason = "signal"


def wished(processes: Processes) -> tuple[Any, ...]:
    objective = Objective(toy_model(), smoothing=0.1)
    progress = sharded_toy(objective, processes, WishIn(), StopAt(9)).run()
    return progress.step, progress.stop


def test_all_stop_where_one_wishes_to(pair: Pair) -> None:
    assert pair.both(wished) == ((4, "signal"), (4, "signal"))


def crowded(processes: Processes) -> tuple[str, int]:
    """No process has room for its batch."""
    objective = Crowded(1)
    trainer = sharded_toy(objective, processes)
    with pytest.raises(ResourceError) as caught:
        trainer.step(toy_group(0))
    return str(caught.value), objective.failures


def test_want_of_memory_ends_the_run_with_advice(pair: Pair) -> None:
    """One process alone cannot try again in parts: the others would not answer."""
    for message, failures in pair.both(crowded):
        assert message.startswith("out of memory")
        assert "halve train.batch_tokens" in message
        assert failures == 1


class Attempt:
    """A run into a folder, which takes up what is there; a process that is not the first may save nothing itself."""

    def __init__(self, folder: Path, *, sharded: bool, stop: int, optimizer: Optimizer | None = None) -> None:
        self.folder, self.sharded, self.stop = folder, sharded, stop
        self.optimizer = optimizer or Adam()

    def __call__(self, processes: Processes) -> tuple[Tensor, Tensor]:
        """Weights and their averages at the end."""
        callbacks: list[Callback] = [StopAt(self.stop, "asked")]
        trainer, model = trainer_of(TRANSFORMER, processes, sharded=self.sharded, optimizer=self.optimizer)
        average = Average(model, 0.5)
        found, _ = checkpoint.newest(self.folder)
        if found is not None:
            trainer.progress = restore(found, model=model, optimizers=trainer.optimizers, average=average)
            trainer.progress.stop = None
        settings = Train(save_every=1000)
        saving = Saving(
            settings,
            folder=self.folder,
            codec="codec",
            facts={},
            average=average,
            request=StopRequest(),
            on_event=_quiet,
        )
        trainer.callbacks = [Averaging(average), *callbacks, saving]
        processes.barrier()  # the second has looked for what the first is about to write
        trainer.run()
        means = torch.cat([full_tensor(tensor).flatten() for tensor in average.tensors().values()])
        return all_weights(model), means


def _quiet(event: str, fields: object) -> None:
    pass


def names(folder: Path) -> dict[str, list[tuple[str, torch.Size, torch.dtype]]]:
    found, warnings = checkpoint.newest(folder)
    assert found is not None
    assert not warnings
    return {
        stem: sorted((name, tensor.shape, tensor.dtype) for name, tensor in found.tensors(stem).items())
        for stem in found.stems
    }


@pytest.mark.parametrize(
    ("ways", "optimizer"), [*((ways, Adam()) for ways in ("s1", "1s", "s2", "2s", "ss")), ("1s", SGD(momentum=0.9))]
)
def test_a_run_goes_on_under_another_setting_from_the_same_checkpoint(
    pair: Pair, tmp_path: Path, ways: str, optimizer: Optimizer
) -> None:
    """s: two processes share everything out; 2: two with whole models; 1: alone."""
    alone = Attempt(tmp_path / "alone", sharded=False, stop=6, optimizer=optimizer)(Processes())
    for way, stop in zip(ways, (3, 6), strict=True):
        attempt = Attempt(tmp_path / "run", sharded=way == "s", stop=stop, optimizer=optimizer)
        result = attempt(Processes()) if way == "1" else pair.both(attempt)[0]
    torch.testing.assert_close(result, alone, rtol=1e-9, atol=1e-9)
    assert names(tmp_path / "run") == names(tmp_path / "alone")


class SaveWish(Callback):
    """One process is asked to save, as by a signal, after a step."""

    def __init__(self, rank: int, request: StopRequest) -> None:
        self.rank, self.request = rank, request

    def stepped(self, trainer: Trainer, step: Update) -> None:
        if trainer.processes.rank == self.rank and trainer.progress.step == 2:
            self.request.save = True


class Asked:
    """A run that is asked to save after its second step, and to stop later."""

    def __init__(self, folder: Path, rank: int, stop: int) -> None:
        self.folder, self.rank, self.stop = folder, rank, stop

    def __call__(self, processes: Processes) -> int:
        request = StopRequest()
        trainer, _ = trainer_of(TRANSFORMER, processes, sharded=True)
        saving = Saving(
            Train(save_every=1000),
            folder=self.folder,
            codec="",
            facts={},
            average=None,
            request=request,
            on_event=_quiet,
        )
        trainer.callbacks = [SaveWish(self.rank, request), StopAt(self.stop, "asked"), saving]
        return trainer.run().step


@pytest.mark.parametrize(("rank", "stop", "saved"), [(0, 4, [2, 4]), (1, 4, [4]), (0, 2, [2])])
def test_the_first_process_decides_when_all_save(
    pair: Pair, tmp_path: Path, rank: int, stop: int, saved: Sequence[int]
) -> None:
    """Each has a clock and wishes of its own, and none must wait for shares that others do not give.

    What the first has saved already is not put together again.
    """
    assert pair.both(Asked(tmp_path, rank, stop)) == (stop, stop)
    assert checkpoint.steps(tmp_path) == saved


def replicated(processes: Processes) -> tuple[bool, ...]:
    """Whether a replica has the weights, then their averages, reads a batch by itself, and no memory besides."""
    objective = objective_of(TRANSFORMER)
    replica = Replica(objective.model, CPU)
    shard(objective, processes, CPU)
    trainer = toy_trainer(StopAt(2), objective=objective, processes=processes, sharded=True)
    average = Average(objective.model, 0.5)
    trainer.callbacks.append(Averaging(average))
    trainer.run()
    weights = all_weights(objective.model)
    means = torch.cat([full_tensor(m).flatten() for m in average.tensors().values()])
    reader, found = Objective(replica.model, smoothing=0.0), []
    for source, expected in ((None, weights), (average, means)):
        replica.average = source
        with replica.applied(), torch.no_grad():
            found.append(torch.equal(all_weights(replica.model), expected))
            batches = 3 * processes.rank * [toy_group(0).batches[0]]  # one process may have more to read than the other
            found += [bool(reader(batch)[0].nll > 0) for batch in batches]
        found.append(all(not tensor.untyped_storage().nbytes() for tensor in replica.model.parameters()))
    found.append(torch.equal(all_weights(objective.model), weights))
    return tuple(found)


def test_a_replica_has_what_is_validated_and_works_alone(pair: Pair) -> None:
    here, there = pair.both(replicated)
    assert len(there) > len(here)
    assert all([*here, *there])


def die(processes: Processes) -> str:
    """The second process is killed while the first waits for it in the midst of a step."""
    trainer, _ = trainer_of(TRANSFORMER, processes, sharded=True)
    group = next(trainer.stream.groups(0))
    trainer.step(group)
    if processes.rank == 1:
        os._exit(1)
    with pytest.raises(ResourceError) as caught:
        trainer.step(group)
    return str(caught.value)


def test_a_lost_partner_is_told_and_not_waited_for(pair: Pair) -> None:
    """Stands last: the pair is no more."""
    pair.wire.send(die)
    message = die(pair.processes)
    assert message.startswith("lost another process of this run")
    assert "the same command goes on" in message
