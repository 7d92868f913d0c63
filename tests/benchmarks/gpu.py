"""Training and translation on a GPU beside a loop over torch's `nn.Transformer` and Hugging Face's Marian, in turns.

    python tests/benchmarks/gpu.py                         # T-base and a 6+6 Transformer of width 1024, on the GPU
    python tests/benchmarks/gpu.py --compile               # with our layers compiled as well
    python tests/benchmarks/gpu.py --device cpu --tiny     # proves that the script works

All systems have models of one size, read the same batches, calculate under autocast in bfloat16 and take fused steps of
AdamW with gradients clipped. Sentences have the lengths of Multi30k's, a quarter more tokens than words, if it is
there, or made up ones; what the tokens are makes no difference. A round is the same `--steps` batches for every system.
Peers that cannot be imported are left out.

Utilisation counts what the model needs, whatever is really done: for each of N weights that are multiplied with a real
token 2 operations forward and 4 backward, 6 N a token. Weights of the encoder, and the projections that turn its
output to keys and values, meet source tokens, all others target tokens; embeddings are looked up. Attention adds
2 products of 2 T S D operations a layer, half of them where it is causal, and again as much twice over backward.
Padding, recomputation and the loss's exponentials count nothing. `--peak-tflops` is what the GPU could do.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import Row, print_rows, row_of
from torch import Tensor, nn

from seqkit.batch import Batch
from seqkit.data.batching import token_batches
from seqkit.data.datasets import Encoded
from seqkit.data.loading import translation_batch
from seqkit.engine.batch_search import search_batches
from seqkit.engine.fused_transformer import fused
from seqkit.models.build import Sizes, build_translation
from seqkit.runs.network import recipe_optimizers
from seqkit.settings import AdamW, Constant, Search, Train, Transformer
from seqkit.system.device import device_of
from seqkit.training.objective import Objective
from seqkit.training.precision import Precision
from seqkit.training.trainer import Trainer

SIZES = {
    "base": Transformer(width=512, encoder_layers=3, decoder_layers=3, heads=8, feed_forward=2048, dropout=0.1),
    "big": Transformer(width=1024, encoder_layers=6, decoder_layers=6, heads=16, feed_forward=4096, dropout=0.1),
    "tiny": Transformer(width=32, encoder_layers=1, decoder_layers=1, heads=2, feed_forward=64, dropout=0.1),
}
VOCABULARY, SMOOTHING = 8000, 0.1
PAD, BOS, EOS, FIRST = 0, 1, 2, 4


class Group(NamedTuple):
    """What one step reads."""

    batches: Sequence[Batch]
    tokens: int
    padded: int
    examples: Sequence[Sequence[int]] = ()


@dataclass
class System:
    """One way to train, or to translate."""

    name: str
    step: Callable[[Group], None]
    memory: int = 0  # bytes that it holds between steps
    peak: int = 0  # and at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, nargs="*", default=["base", "big"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="a small model and few batches")
    parser.add_argument("--batch-tokens", type=int, default=25000, help="target tokens a batch, padding included")
    parser.add_argument("--steps", type=int, default=40, help="batches in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=1000, help="sentences translated in a round; 0: none")
    parser.add_argument("--compile", action="store_true", help="measure our compiled layers too")
    parser.add_argument("--peak-tflops", type=float, default=989, help="of the device in bfloat16, dense")
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"))
    arguments = parser.parse_args()
    if arguments.tiny:
        torch.set_num_threads(1)  # threads that wait for each other would take most of the time
        arguments.size, arguments.batch_tokens, arguments.steps = ["tiny"], 500, 3
        arguments.rounds, arguments.lines = 2, min(arguments.lines, 20)
    device = device_of(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}")
    source, target = sentences(arguments.data)
    for size in arguments.size:
        train(SIZES[size], size, groups_of(source, target, arguments), device, arguments)
        if arguments.lines:
            for beam in (1, 5):
                translate(SIZES[size], size, source, beam, device, arguments)


def sentences(folder: Path) -> tuple[Encoded, Encoded]:
    """Sources and targets of real lengths, of random tokens that are the rarer the higher their number."""
    random = np.random.default_rng(1)
    if (folder / "train.en").exists():
        words = [
            np.array([len(line.split()) for line in (folder / name).read_text(encoding="utf-8").split("\n")[:-1]])
            for name in ("train.en", "train.de")
        ]
        lengths = [np.maximum(1, np.rint(1.25 * counts)).astype(int) for counts in words]
    else:
        sizes = np.clip(random.lognormal(2.65, 0.3, 29000), 3, 60)
        lengths = [np.rint(sizes * random.normal(factor, 0.1, len(sizes))).clip(2).astype(int) for factor in (1, 1.1)]
    source, target = (
        Encoded.from_lists([np.minimum(FIRST + random.zipf(1.3, n), VOCABULARY - 1).tolist() for n in lengths_of_side])
        for lengths_of_side in lengths
    )
    return source, target


def groups_of(source: Encoded, target: Encoded, arguments: argparse.Namespace) -> list[Group]:
    """The batches of a round."""
    plan = token_batches(source.lengths, target.lengths, budget=arguments.batch_tokens, seed=1, epoch=0)
    chosen = [plan[index % len(plan)] for index in range(arguments.steps)]
    batches = [translation_batch(source, target, indices) for indices in chosen]
    return [Group([batch], int(batch.targets.mask.sum()), batch.targets.mask.numel()) for batch in batches]


def operations(model: Transformer, batch: Batch) -> float:
    """What training on a batch needs: see the top of this file."""
    assert batch.source is not None
    width, inner = model.width, model.feed_forward
    s, t = (mask.sum(1).double() for mask in (batch.source.mask, batch.targets.mask))
    of_encoder = model.encoder_layers * (4 * width**2 + 2 * width * inner) + model.decoder_layers * 2 * width**2
    of_decoder = model.decoder_layers * (6 * width**2 + 2 * width * inner) + width * VOCABULARY
    attention = model.encoder_layers * s * s + model.decoder_layers * (t * t / 2 + t * s)
    return float(6 * (of_encoder * s + of_decoder * t).sum() + 3 * (4 * width * attention).sum())


def train(
    model: Transformer, size: str, groups: Sequence[Group], device: torch.device, arguments: argparse.Namespace
) -> None:
    """All systems in turns: tokens a second, peak memory, utilisation."""
    systems: list[System] = []
    makers: dict[str, Callable[[], Callable[[Group], None]]] = {
        "nn.Transformer loop": lambda: loop(Plain(model).to(device), plain_logits, device),
        "Hugging Face Marian": lambda: loop(marian(model).to(device), marian_logits, device),
        "seqkit": lambda: ours(model, device, compiled=False),
    }
    if arguments.compile:
        makers["seqkit, compiled"] = lambda: ours(model, device, compiled=True)
    for name, make in makers.items():
        before = held(device)
        try:
            step = make()
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        for group in groups:  # every shape is met once before anything is measured
            step(group)
        systems.append(System(name, step, held(device) - before))
    rates: dict[str, list[float]] = {system.name: [] for system in systems}
    tokens = sum(group.tokens for group in groups)
    for _ in range(arguments.rounds):
        for system in systems:
            with peak_of(system, device):
                began = now(device)
                for group in groups:
                    system.step(group)
                rates[system.name].append(tokens / (now(device) - began))
    needed = sum(operations(model, group.batches[0]) for group in groups) / tokens
    rows = []
    for system in systems:
        measured_rates = rates[system.name]
        share = statistics.median(measured_rates) * needed / (arguments.peak_tflops * 1e12)
        note = f"{100 * share:.1f} % of {arguments.peak_tflops:g} TFLOP/s"
        rows.append(row_of(system.name, measured_rates, unit="tokens/s", memory=system.peak / 2**20, note=note))
    padded = sum(group.padded for group in groups)
    filled = f"{tokens / len(groups):.0f} a batch of {padded / len(groups):.0f}"
    print_rows(f"training {size}, real target tokens a second ({filled})", rows, baseline="nn.Transformer loop")


def now(device: torch.device) -> float:
    """The time once all work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def held(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


@contextlib.contextmanager
def peak_of(system: System, device: torch.device) -> Iterator[None]:
    """Note the most that a system holds, without what belongs to the others."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = held(device)
    yield
    system.peak = max(system.peak, system.memory + torch.cuda.max_memory_allocated(device) - before)


def ours(settings: Transformer, device: torch.device, *, compiled: bool) -> Callable[[Group], None]:
    """The trainer as `seqkit train` sets it up, without callbacks."""
    torch.manual_seed(1)
    model = build_translation(settings, Sizes(VOCABULARY, VOCABULARY, joint=True)).to(device)
    objective = Objective(
        model, smoothing=SMOOTHING, precision=Precision(torch.bfloat16, torch.bfloat16), compiled=compiled
    ).train()
    trainer = Trainer(
        objective=objective,
        optimizers=recipe_optimizers(Train(learning_rate=1e-4, optimizer=AdamW()), model),
        schedule=Constant(),
        stream=NoStream(),
        callbacks=[],
        seed=1,
        clip=1.0,
        device=device,
    )
    return lambda group: void(trainer.step(group))


class NoStream:
    """A stream of nothing: `step` is called by hand."""

    carries = 0

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        yield from ()

    def count(self, epoch: int) -> int:
        return 0

    def largest(self, epoch: int) -> Group:
        raise IndexError("there is nothing in it")


def void(_: object) -> None:
    """Nothing."""


class Plain(nn.Module):
    """nn.Transformer with one embedding matrix for both sides and the output."""

    def __init__(self, settings: Transformer) -> None:
        super().__init__()
        width = settings.width
        self.embedding = nn.Embedding(VOCABULARY, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.positions = nn.Parameter(torch.randn(512, width) * 0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.transformer = nn.Transformer(
            width,
            settings.heads,
            settings.encoder_layers,
            settings.decoder_layers,
            settings.feed_forward,
            settings.dropout,
            batch_first=True,
            norm_first=True,
        )

    def embed(self, ids: Tensor) -> Tensor:
        scaled = self.embedding(ids) * self.embedding.embedding_dim**0.5
        vectors: Tensor = self.dropout(scaled + self.positions[: ids.shape[1]])
        return vectors

    def forward(self, source: Tensor, mask: Tensor, inputs: Tensor) -> Tensor:
        size = inputs.shape[1]
        hidden = self.transformer(
            self.embed(source),
            self.embed(inputs),
            tgt_mask=torch.ones(size, size, dtype=torch.bool, device=inputs.device).triu(1),
            tgt_is_causal=True,
            src_key_padding_mask=~mask,
            memory_key_padding_mask=~mask,
        )
        return F.linear(hidden, self.embedding.weight)


def plain_logits(model: nn.Module, batch: Batch) -> Tensor:
    assert batch.source is not None
    logits: Tensor = model(batch.source.ids, batch.source.mask, batch.inputs)
    return logits


def marian(settings: Transformer) -> Any:
    """A Marian model of the same size with random weights."""
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(1)
    return MarianMTModel(
        MarianConfig(
            vocab_size=VOCABULARY,
            d_model=settings.width,
            encoder_layers=settings.encoder_layers,
            decoder_layers=settings.decoder_layers,
            encoder_attention_heads=settings.heads,
            decoder_attention_heads=settings.heads,
            encoder_ffn_dim=settings.feed_forward,
            decoder_ffn_dim=settings.feed_forward,
            dropout=settings.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            activation_function="relu",
            max_position_embeddings=512,
            scale_embedding=True,
            pad_token_id=PAD,
            eos_token_id=EOS,
            decoder_start_token_id=BOS,
            forced_eos_token_id=None,
        )
    )


def marian_logits(model: nn.Module, batch: Batch) -> Tensor:
    assert batch.source is not None
    output = model(
        input_ids=batch.source.ids,
        attention_mask=batch.source.mask.long(),
        decoder_input_ids=batch.inputs,
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


def loop(
    model: nn.Module, logits_of: Callable[[nn.Module, Batch], Tensor], device: torch.device
) -> Callable[[Group], None]:
    """The training step of every tutorial, with torch's fused optimizer."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=True)

    def step(group: Group) -> None:
        batch = group.batches[0].to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = logits_of(model, batch)
        wanted = batch.targets.ids.masked_fill(~batch.targets.mask, -100).flatten()
        loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted, ignore_index=-100, label_smoothing=SMOOTHING)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def translate(
    settings: Transformer,
    size: str,
    source: Encoded,
    beam: int,
    device: torch.device,
    arguments: argparse.Namespace,
) -> None:
    """Lines a second: random models, whose translations are as long as their sources, in batches of one budget."""
    read = [source[index].tolist() for index in range(arguments.lines)]
    search = Search(beam=beam, maximum_ratio=1.0, maximum_extra=1, batch_tokens=128 * 20 * max(1, beam))
    torch.manual_seed(1)
    model = build_translation(settings, Sizes(VOCABULARY, VOCABULARY, joint=True)).to(device).eval()
    with torch.no_grad():
        model.output.bias[EOS] = -1e9  # nothing ends before its time
    systems: dict[str, Callable[[], object]] = {}
    for name, products in (("float32", None), ("bfloat16", torch.bfloat16)):
        stepper = fused(model, products=products)
        systems[f"seqkit, {name}"] = partial(search_batches, stepper, read, search, device=device)
        with contextlib.suppress(ImportError):
            peer = marian(settings).to(device, products or torch.float32).eval()
            systems[f"Hugging Face Marian, {name}"] = partial(generate, peer, read, beam, device)
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(arguments.rounds + 1):  # the first warms up
        for name, run in systems.items():
            began = now(device)
            run()
            if turn:
                rates[name].append(len(read) / (now(device) - began))
    rows: list[Row] = [row_of(name, measured_rates, unit="lines/s") for name, measured_rates in rates.items()]
    print_rows(f"translating with {size}, beam {beam}", rows, baseline="Hugging Face Marian, float32")


def generate(model: Any, read: Sequence[Sequence[int]], beam: int, device: torch.device, batch: int = 128) -> None:
    """As many lines at a time as our budget gives on average, longest first, to the length of the longest."""
    order = sorted(read, key=len, reverse=True)
    for begin in range(0, len(order), batch):
        part = order[begin : begin + batch]
        longest = len(part[0]) + 1
        ids = torch.tensor([[*row, EOS, *[PAD] * (longest - len(row) - 1)] for row in part])
        with torch.inference_mode():
            model.generate(
                input_ids=ids.to(device),
                attention_mask=(ids != PAD).long().to(device),
                num_beams=beam,
                do_sample=False,
                min_new_tokens=longest,
                max_new_tokens=longest,
            )


if __name__ == "__main__":
    main()
