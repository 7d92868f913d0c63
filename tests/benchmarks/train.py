"""Training throughput beside a plain loop over torch's `nn.Transformer`, `nn.GRU` or `nn.LSTM`, in turns in one run.

    python tests/benchmarks/train.py --size tiny --seconds 30 [--data data/multi30k]
    python tests/benchmarks/train.py --size lstm_lm --seconds 20 [--data data/ptb]
    python tests/benchmarks/train.py --size rnn --seconds 20 --opennmt FOLDER    # see opennmt.py

Each system is a process of its own kind: ours starts as many processes as `seqkit train` does here, unless
train.processes is set; the loop has one process with all threads. Both read the same batches: about 4,096 target
tokens, bucketed by length, or 20 rows of 35 tokens for the language model. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import opennmt
import torch
import torch.nn.functional as F
from measuring import peak_memory, print_rows, rate_of, row_of, text_of
from torch import Tensor, nn

from seqkit import config
from seqkit.errors import ResourceError
from seqkit.parallel.processes import Processes, connect
from seqkit.runs.network import build_model, recipe_optimizers
from seqkit.settings import Recipe, Recurrent, RecurrentLanguageModel
from seqkit.settings.automatic import processes as processes_for
from seqkit.system.host import cores, keep_heap
from seqkit.tasks import Task, prepare
from seqkit.training.objective import build_objective
from seqkit.training.reading import BatchGroup, TrainingStream
from seqkit.training.trainer import Trainer

SIZES = {
    "tiny": {"kind": "transformer", "width": 128, "encoder_layers": 4, "decoder_layers": 4, "heads": 4,
             "feed_forward": 256, "dropout": 0.3},
    "base": {"kind": "transformer", "width": 512, "encoder_layers": 3, "decoder_layers": 3, "heads": 8,
             "feed_forward": 2048, "dropout": 0.1},
    "rnn": {"kind": "recurrent", "cell": "gru", "width": 256, "embedding": 256, "attention": "additive",
            "dropout": 0.2},
    "lstm_lm": {"kind": "recurrent_language_model", "cell": "lstm", "width": 200, "layers": 2, "embedding": 200,
                "tied": "none", "dropout": 0.2, "input_dropout": 0.2, "hidden_dropout": 0.2},
}  # fmt: skip
LANGUAGE = "lstm_lm"
PEERS = {"rnn": "nn.GRU loop", LANGUAGE: "nn.LSTM loop"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seconds", type=float, default=20, help="of each system in each of three rounds")
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change our recipe")
    parser.add_argument("--opennmt", type=Path, metavar="FOLDER", help="with OpenNMT-py, for rnn: see opennmt.py")
    parser.add_argument("--only", choices=["ours", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--files", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        if arguments.size == LANGUAGE:
            arguments.data = arguments.data if (arguments.data / "train.txt").exists() else Path("data/ptb")
        source, target = text_of(arguments.data)
        for name, lines in (("train.en", source), ("train.de", target)):
            (files / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        prepare(recipe_of(arguments, files), files)  # the text layer, once for all
        names = {"plain": PEERS.get(arguments.size, "nn.Transformer loop")}
        if arguments.opennmt:
            names["opennmt"] = "OpenNMT-py"
        names["ours"] = f"seqkit, processes: {world_of(recipe_of(arguments, files))}"
        rates: dict[str, list[float]] = {system: [] for system in names}
        memory: dict[str, float] = {}
        for _ in range(3):
            for system, values_so_far in rates.items():
                values, memory[system] = child(system, arguments, files)
                values_so_far += values
        rows = [
            row_of(names[system], values_so_far, unit="tokens/s", memory=memory[system])
            for system, values_so_far in rates.items()
        ]
        print_rows(f"training {arguments.size}, real target tokens a second", rows, baseline=names["plain"])


def recipe_of(arguments: argparse.Namespace, files: Path) -> Recipe:
    data = {"kind": "pairs", "train": [str(files / "train.en"), str(files / "train.de")]}
    if arguments.size == LANGUAGE:
        ptb = arguments.data / "train.txt"
        tree = {
            "data": {"kind": "stream", "train": [str(ptb if ptb.exists() else files / "train.de")], "window": 35},
            "text": {"kind": "words", "split": "spaces"},
            "model": SIZES[LANGUAGE],
            "train": {"steps": 1, "batch_tokens": 700, "schedule": {"kind": "constant"}, "optimizer": {"kind": "sgd"}},
        }
        return config.build(tree, where="benchmark", overrides=arguments.set)
    tree = {
        "data": data,
        "text": {"kind": "sentencepiece", "size": 8000 if (arguments.data / "train.en").exists() else 400},
        "model": SIZES[arguments.size],
        "train": {"steps": 1, "batch_tokens": 4400, "schedule": {"kind": "constant"}, "learning_rate": 1e-4},
    }
    return config.build(tree, where="benchmark", overrides=arguments.set)


def world_of(recipe: Recipe) -> int:
    asked = recipe.train.processes
    return processes_for(recipe, cores=cores()) if asked == "auto" else asked


def child(system: str, arguments: argparse.Namespace, files: Path) -> tuple[list[float], float]:
    """Measure one system in fresh processes: its rates and its memory, summed over the processes."""
    recipe = recipe_of(arguments, files)
    if system == "opennmt":
        return opennmt.rates(arguments.opennmt, recipe, prepare(recipe, files), files, arguments.seconds)
    world = world_of(recipe) if system == "ours" else 1
    words = [sys.executable, __file__, "--only", system, "--files", str(files), "--size", arguments.size]
    words += ["--seconds", str(arguments.seconds), "--data", str(arguments.data), "--set", *arguments.set]
    environment = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
    environment["OMP_NUM_THREADS"] = str(max(1, cores() // world))
    children = [
        subprocess.Popen(words, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE) for rank in range(world)
    ]
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in children]
    return answers[0]["rates"], sum(answer["memory"] for answer in answers)


def measure(arguments: argparse.Namespace) -> None:
    recipe = recipe_of(arguments, arguments.files)
    task = prepare(recipe, arguments.files)
    step = ours(recipe, task) if arguments.only == "ours" else plain(recipe, task)
    for _ in range(3):
        step()
    rates: list[float] = []
    with contextlib.suppress(ResourceError):  # where another process's time was over a step earlier
        rates.extend(rate_of(step, seconds=arguments.seconds))
    print(json.dumps({"rates": rates, "memory": peak_memory()}))


def ours(recipe: Recipe, task: Task) -> Callable[[], int]:
    processes = connect(torch.device("cpu"))
    if recipe.train.keep_heap:
        keep_heap()
    torch.set_num_threads(max(1, cores() // processes.world))
    model = build_model(recipe, task.codecs)
    stream = task.stream(processes)
    trainer = Trainer(
        objective=build_objective(recipe, model, torch.device("cpu")),
        optimizers=recipe_optimizers(recipe.train, model, processes),
        schedule=recipe.train.schedule,
        stream=stream,
        callbacks=[],
        seed=1,
        clip=1.0,
        processes=processes,
    )
    trainer.objective.train()
    groups = endless(stream)

    def step() -> int:
        group = next(groups)
        trainer.step(group)
        return group.tokens

    return step


def endless(stream: TrainingStream) -> Iterator[BatchGroup]:
    """The groups of all epochs."""
    epoch = 0
    while True:
        yield from stream.groups(epoch)
        epoch += 1


class Plain(nn.Module):
    """What one writes in an afternoon: nn.Transformer, one embedding matrix, whole logits."""

    def __init__(self, sizes: dict[str, int | float], vocabulary: int) -> None:
        super().__init__()
        width = int(sizes["width"])
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.positions = nn.Parameter(torch.randn(512, width) * 0.02)
        self.dropout = nn.Dropout(float(sizes["dropout"]))
        self.transformer = nn.Transformer(
            width,
            int(sizes["heads"]),
            int(sizes["encoder_layers"]),
            int(sizes["decoder_layers"]),
            int(sizes["feed_forward"]),
            float(sizes["dropout"]),
            batch_first=True,
            norm_first=True,
        )

    def embed(self, ids: Tensor) -> Tensor:
        scaled = self.embedding(ids) * self.embedding.embedding_dim**0.5
        vectors: Tensor = self.dropout(scaled + self.positions[: ids.shape[1]])
        return vectors

    def forward(self, source: Tensor, source_pad: Tensor, inputs: Tensor) -> Tensor:
        size = inputs.shape[1]
        ahead = torch.ones(size, size, dtype=torch.bool).triu(1)
        hidden = self.transformer(
            self.embed(source),
            self.embed(inputs),
            tgt_mask=ahead,
            src_key_padding_mask=source_pad,
            memory_key_padding_mask=source_pad,
        )
        return F.linear(hidden, self.embedding.weight)


class PlainRecurrent(nn.Module):
    """A bidirectional `nn.GRU` and one that looks back at it by Bahdanau's attention, after all its steps at once."""

    def __init__(self, sizes: dict[str, int | float], vocabulary: int) -> None:
        super().__init__()
        width = int(sizes["width"])
        self.dropout = nn.Dropout(float(sizes["dropout"]))
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(width, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.combined = nn.Linear(2 * width, width)

    def forward(self, source: Tensor, source_pad: Tensor, inputs: Tensor) -> Tensor:
        lengths = (~source_pad).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(source)), lengths, batch_first=True, enforce_sorted=False
        )
        memory, last = self.encoder(packed)
        memory = nn.utils.rnn.pad_packed_sequence(memory, batch_first=True, total_length=source.shape[1])[0]
        start = torch.tanh(self.bridge(torch.cat([last[0], last[1]], dim=1)))
        hidden, _ = self.decoder(self.dropout(self.embedding(inputs)), start[None])
        energies = torch.tanh(self.query(hidden)[:, :, None] + self.key(memory)[:, None])
        weights = self.score(energies)[..., 0].masked_fill(source_pad[:, None], -torch.inf).softmax(-1)
        seen = torch.tanh(self.combined(torch.cat([hidden, weights @ memory], dim=-1)))
        return F.linear(self.dropout(seen), self.embedding.weight)


class PlainLanguageModel(nn.Module):
    """The word language model of every tutorial."""

    def __init__(self, sizes: dict[str, int | float], vocabulary: int) -> None:
        super().__init__()
        width = int(sizes["width"])
        self.dropout = nn.Dropout(float(sizes["dropout"]))
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, int(sizes["layers"]), dropout=float(sizes["dropout"]), batch_first=True)
        self.output = nn.Linear(width, vocabulary)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, state = self.lstm(self.dropout(self.embedding(x)), state)
        return F.log_softmax(self.output(self.dropout(out)).flatten(0, 1), dim=1), state


def plain_language_model(recipe: Recipe, task: Task) -> Callable[[], int]:
    model = PlainLanguageModel(msgspec.to_builtins(recipe.model), len(task.codecs.target)).train()
    groups = endless(task.stream(Processes()))
    state: tuple[Tensor, Tensor] | None = None

    def step() -> int:
        nonlocal state
        group = next(groups)
        (batch,) = group.batches
        state = (state[0].detach(), state[1].detach()) if state and batch.continues else None
        model.zero_grad()
        scores, state = model(batch.inputs, state)
        torch.autograd.backward(F.nll_loss(scores, batch.targets.ids.flatten()))
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.add_(parameter.grad, alpha=-1.0)
        return group.tokens

    return step


def plain(recipe: Recipe, task: Task) -> Callable[[], int]:
    torch.set_num_threads(cores())
    torch.manual_seed(1)
    if isinstance(recipe.model, RecurrentLanguageModel):
        return plain_language_model(recipe, task)
    kind = PlainRecurrent if isinstance(recipe.model, Recurrent) else Plain
    model = kind(msgspec.to_builtins(recipe.model), len(task.codecs.target)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98))
    groups = endless(task.stream(Processes()))

    def step() -> int:
        group = next(groups)
        (batch,) = group.batches
        assert batch.source is not None
        logits = model(batch.source.ids, ~batch.source.mask, batch.inputs)
        wanted = batch.targets.ids.masked_fill(~batch.targets.mask, -100)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return group.tokens

    return step


if __name__ == "__main__":
    main()
