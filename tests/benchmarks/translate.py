"""Translation speed of a trained run: whole file by beam and by greedy search, and one sentence at a time.

    python tests/benchmarks/translate.py runs/t test.en --ref test.de

With transformers installed, a Hugging Face Marian model of the same size (random weights, its outputs forced to the
lengths of ours) is measured in turn with ours. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import torch
from common import Row, peak_memory, print_rows, row_of

from seqkit.cli.translate import search_of
from seqkit.data import read_lines
from seqkit.host import cores
from seqkit.settings import Search, Transformer
from seqkit.translator import Translation, Translator

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--ref", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="search.KEY=VALUE", help="change our search")
    arguments = parser.parse_args()
    lines = read_lines(arguments.source)
    began = time.perf_counter()
    translator = Translator.load(arguments.run, device="cpu")
    search = search_of(translator.recipe, arguments.set)
    print(f"{translator.description}, loaded in {time.perf_counter() - began:.2f} s")
    torch.set_num_threads(cores())
    for beam in (5, 1):
        translations = translate(translator, lines, beam, search=search)
        systems: dict[str, Callable[[], int]] = {f"seqkit, beam {beam}": partial(ours, translator, lines, beam, search)}
        if importlib.util.find_spec("transformers") and isinstance(translator.recipe.model, Transformer):
            systems[f"Hugging Face Marian, beam {beam}"] = marian(translator, translations, beam)
        print_rows(f"translating {len(lines)} lines", in_turns(systems), baseline=f"Hugging Face Marian, beam {beam}")
        if arguments.ref is not None:
            score(translations, read_lines(arguments.ref), beam)
    times = []
    for line in lines[::20]:
        began = time.perf_counter()
        translate(translator, [line], 5, search=search)
        times.append(1e3 * (time.perf_counter() - began))
    print_rows("one sentence, beam 5", [row_of("seqkit", times, unit="ms", memory=peak_memory())], baseline="")


def translate(translator: Translator, lines: list[str], beam: int, *, search: Search) -> list[Translation]:
    return list(translator.translate(lines, search=msgspec.structs.replace(search, beam=beam)))


def ours(translator: Translator, lines: list[str], beam: int, search: Search) -> int:
    return len(translate(translator, lines, beam, search=search))


def in_turns(systems: dict[str, Callable[[], int]]) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, run in systems.items():
            began = time.perf_counter()
            count = run()
            rates[name].append(count / (time.perf_counter() - began))
    return [row_of(name, found, unit="lines/s", memory=peak_memory()) for name, found in rates.items()]


def score(translations: list[Translation], references: list[str], beam: int) -> None:
    from seqkit.metrics import corpus_scores

    (found,) = corpus_scores([translation.text for translation in translations], [references], metrics=("bleu",))
    print(f"  beam {beam}: BLEU {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]  {found.signature}")


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
