"""Translation speed of a trained run: whole file by beam and by greedy search, and one sentence at a time.

    python tests/benchmarks/translate.py runs/t test.en --ref test.de

With `--ct2` the same model, exported, is measured in CTranslate2; with transformers installed, a Hugging Face Marian
model of the same size (random weights, its outputs forced to the lengths of ours) is measured in turn with ours. Then
the command is run as it is typed, for its memory, and the lines of all ways to translate are compared. Run it on an
otherwise idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from measuring import Row, peak_memory, print_rows, row_of

from seqkit.cli.conversation.answering import answer
from seqkit.cli.conversation.talk import Conversation
from seqkit.cli.words import search_of
from seqkit.data import read_lines
from seqkit.inference.translation import Line, Translation
from seqkit.inference.translator import Translator
from seqkit.inference.workers import Workers
from seqkit.settings import Search, Transformer
from seqkit.system.host import cores, keep_heap

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--ref", type=Path)
    parser.add_argument("--ct2", type=Path, help="the same model as `seqkit export ct2 RUN DIR` writes it")
    parser.add_argument("--beams", type=int, nargs="*", default=[5, 1])
    parser.add_argument("--set", nargs="*", default=[], metavar="search.KEY=VALUE", help="change our search")
    arguments = parser.parse_args()
    lines = read_lines(arguments.source)
    keep_heap()  # as the command does
    began = time.perf_counter()
    translator = Translator.load(arguments.run, device="cpu")
    search = search_of(translator.recipe, arguments.set)
    print(f"{translator.description}, loaded in {time.perf_counter() - began:.2f} s")
    with Workers([arguments.run], count=cores()) as workers:
        list(workers.translate([Line("a")], search=search))  # they are there
        for beam in arguments.beams:
            translations = translate(translator, lines, beam, search=search)
            systems: dict[str, Callable[[], int]] = {
                f"seqkit, {threads} thread(s)": partial(ours, translator, lines, beam, search, threads)
                for threads in sorted({1, cores()})
            }
            systems[f"seqkit, {cores()} worker(s)"] = partial(by_workers, workers, lines, beam, search)
            systems |= ctranslate2(arguments.ct2, translator, lines, beam) if arguments.ct2 else {}
            if importlib.util.find_spec("transformers") and isinstance(translator.recipe.model, Transformer):
                systems["Hugging Face Marian"] = marian(translator, translations, beam)
            baseline = "CTranslate2, 1 worker(s)" if arguments.ct2 else "Hugging Face Marian"
            print_rows(f"translating {len(lines)} lines, beam {beam}", in_turns(systems), baseline=baseline)
            if arguments.ref is not None:
                score(translations, read_lines(arguments.ref), beam)
        shared = [translation.text for translation in workers.translate([Line(line) for line in lines], search=search)]
    one_by_one(translator, lines[:: max(1, len(lines) // 50)], search, arguments.ct2)
    compare(arguments, translator, lines, search, shared)


def compare(
    arguments: argparse.Namespace, translator: Translator, lines: list[str], search: Search, shared: list[str]
) -> None:
    """Whether every way to translate the lines gives the same text, and what the command needs."""
    torch.set_num_threads(cores())
    usual = [translation.text for translation in translator.translate(lines, search=search)]
    ways = {f"{cores()} workers": shared}
    for budget in (512, 3000, 60000):
        order = list(range(len(lines)))
        random.Random(budget).shuffle(order)
        mixed = msgspec.structs.replace(search, batch_tokens=budget)
        translations = translator.translate([lines[index] for index in order], search=mixed)
        placed = dict(zip(order, (translation.text for translation in translations), strict=True))
        ways[f"in another order, batches of {budget} tokens"] = [placed[index] for index in range(len(lines))]
    words = [sys.executable, "-m", "seqkit", "translate", str(arguments.run), "-i", str(arguments.source), "-q"]
    with subprocess.Popen([*words, *arguments.set], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        peaks = [0.0]
        threading.Thread(target=watch, args=(process.pid, peaks), daemon=True).start()
        ways["the command"] = process.stdout.read().decode().split("\n")[:-1]
    torch.set_num_threads(1)
    session = Conversation(translator, search)
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.redirect_stderr(io.StringIO()):
        for line in lines:
            answer(session, line)
    ways["the session"] = said.getvalue().split("\n")[:-1]
    print("the same text as in Python")
    for name, texts in ways.items():
        equal = sum(one == other for one, other in zip(usual, texts, strict=True))
        print(f"  {name:45} {equal} of {len(usual)} lines")
    print(f"memory of the command: {peaks[-1]:.0f} MiB")


def watch(process: int, peaks: list[float]) -> None:
    """Note the largest resident size of a process, in MiB, until it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        while True:
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            peaks.append(next(int(row.split()[1]) / 1024 for row in status if row.startswith("VmHWM")))
            time.sleep(0.02)


def one_by_one(translator: Translator, lines: list[str], search: Search, folder: Path | None) -> None:
    """How long each line takes when nothing else is asked, in turns."""
    torch.set_num_threads(1)
    systems: dict[str, Callable[[str], object]] = {
        "seqkit": lambda line: translate(translator, [line], 5, search=search)
    }
    if folder is not None:
        tool = peer(folder, workers=1)
        source = translator.loaded.codecs.source
        systems["CTranslate2"] = lambda line: tool.translate_batch(
            [source.tokens(source.encode(line))], beam_size=5, max_decoding_length=100
        )
    times: dict[str, list[float]] = {name: [] for name in systems}
    for line in lines:
        for name, run in systems.items():
            began = time.perf_counter()
            run(line)
            times[name].append(1e3 * (time.perf_counter() - began))
    rows = [row_of(name, values, unit="ms", memory=peak_memory()) for name, values in times.items()]
    print_rows("one sentence, beam 5", rows, baseline="CTranslate2")


def peer(folder: Path, *, workers: int) -> Any:
    """CTranslate2 with the exported model, each worker with one thread."""
    import ctranslate2

    return ctranslate2.Translator(str(folder), inter_threads=workers, intra_threads=1, compute_type="float32")


def ctranslate2(folder: Path, translator: Translator, lines: list[str], beam: int) -> dict[str, Callable[[], int]]:
    """The same model in CTranslate2, from pieces to pieces, 64 lines at a time as its users do it."""
    source = translator.loaded.codecs.source
    pieces = [source.tokens(ids) for ids in source.encode_many(lines)]

    def run(tool: Any) -> int:
        translations = tool.translate_batch(
            pieces, max_batch_size=64, batch_type="examples", beam_size=beam, max_decoding_length=100
        )
        return len(translations)

    return {f"CTranslate2, {n} worker(s)": partial(run, peer(folder, workers=n)) for n in sorted({1, cores()})}


def translate(translator: Translator, lines: list[str], beam: int, *, search: Search) -> list[Translation]:
    return list(translator.translate(lines, search=msgspec.structs.replace(search, beam=beam)))


def ours(translator: Translator, lines: list[str], beam: int, search: Search, threads: int) -> int:
    torch.set_num_threads(threads)
    return len(translate(translator, lines, beam, search=search))


def by_workers(workers: Workers, lines: list[str], beam: int, search: Search) -> int:
    search = msgspec.structs.replace(search, beam=beam)
    return len(list(workers.translate([Line(line) for line in lines], search=search)))


def in_turns(systems: dict[str, Callable[[], int]]) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, run in systems.items():
            began = time.perf_counter()
            count = run()
            rates[name].append(count / (time.perf_counter() - began))
    return [row_of(name, values, unit="lines/s", memory=peak_memory()) for name, values in rates.items()]


def score(translations: list[Translation], references: list[str], beam: int) -> None:
    from seqkit.metrics import corpus_scores

    (bleu,) = corpus_scores([translation.text for translation in translations], [references], metrics=("bleu",))
    print(f"  beam {beam}: BLEU {bleu.value:.2f} [{bleu.low:.2f}, {bleu.high:.2f}]  {bleu.signature}")


def marian(translator: Translator, translations: list[Translation], beam: int) -> Callable[[], int]:
    """A Marian model of the same size that decodes the same sources to the same lengths, 64 lines at a time."""
    from transformers import MarianConfig, MarianMTModel

    model = translator.recipe.model
    assert isinstance(model, Transformer)
    settings = MarianConfig(
        vocab_size=len(translator.loaded.codecs.target),
        d_model=model.width,
        encoder_layers=model.encoder_layers,
        decoder_layers=model.decoder_layers,
        encoder_attention_heads=model.heads,
        decoder_attention_heads=model.heads,
        encoder_ffn_dim=model.feed_forward,
        decoder_ffn_dim=model.feed_forward,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        max_position_embeddings=512,
        scale_embedding=True,
        activation_function="relu",
    )
    network = MarianMTModel(settings).eval()
    order = sorted(range(len(translations)), key=lambda index: len(translations[index].source_ids))
    batches = [order[start : start + 64] for start in range(0, len(order), 64)]

    def run() -> int:
        for batch in batches:
            rows = [[*translations[index].source_ids, 2] for index in batch]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            steps = max(len(translations[index].target_ids) for index in batch) + 1
            with torch.inference_mode():
                network.generate(
                    input_ids=ids,
                    attention_mask=(ids != 0).long(),
                    num_beams=beam,
                    min_new_tokens=steps,
                    max_new_tokens=steps,
                    do_sample=False,
                )
        return len(translations)

    return run


if __name__ == "__main__":
    main()
