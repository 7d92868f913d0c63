"""Translation models for export: small, but every weight has moved, so that none can be forgotten or misplaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F

from seqkit import config
from seqkit.batch import pad
from seqkit.config import build
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.parallel.parameters import named_tensors
from seqkit.runs.network import build_model
from seqkit.settings import Recipe
from seqkit.storage.model_folder import write_model
from seqkit.text.codec import Codecs
from seqkit.text.vocabulary import BOS, EOS

SOURCES = ["a cat sat on the mat", "two dogs ran", "the cat saw the dogs", "a dog sat", "on the mat the cats ran"]
TARGETS = ["eine Katze saß auf der Matte", "zwei Hunde liefen", "die Katze sah die Hunde", "ein Hund saß", "ja"]
SEARCH = {"beam": 4, "maximum_length": 20, "maximum_extra": 20}

Tree = dict[str, object]  # settings of one section, as a recipe has them

WORDS: Tree = {"kind": "words"}
CHARACTERS: Tree = {"kind": "characters", "joint": False}
PIECES: Tree = {"kind": "sentencepiece", "size": 300}
SMALL: Tree = {"width": 12, "heads": 2, "feed_forward": 20, "encoder_layers": 2, "decoder_layers": 2}


class Make(Protocol):
    """Makes, or has made, the model folder for these settings; not to be written to."""

    def __call__(self, text: Tree, model: Tree, *, steps: int = 50) -> Path: ...


def tiny_model(
    folder: Path,
    *,
    text: Tree,
    model: Tree,
    dev: bool = False,
    more: Sequence[str] = (),
    steps: int = 50,
    ending: float = 0.0,
) -> Path:
    """A model folder that half knows a few sentences; `more` lines are in its vocabulary, `ending` favours `</s>`."""
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, object] = {"train": ["none"], "source": "en", "target": "de", "maximum_length": 40}
    if dev:
        rows = "".join(f"{source}\t{target}\n" for source, target in zip(SOURCES, TARGETS, strict=True))
        (folder / "dev.tsv").write_text(rows, encoding="utf-8")
        data["dev"] = [str(folder / "dev.tsv")]
    shape = {**SMALL, **model} if "kind" not in model else model
    sections = {"data": data, "text": text, "model": shape, "search": SEARCH}
    recipe = build({"name": "toy", **sections}, where="the test")
    codecs = Codecs.learn([*SOURCES, *more], TARGETS, recipe.text)
    with torch.random.fork_rng():
        network = drilled(recipe, codecs, steps=steps)
    with torch.no_grad():
        network.output.bias[EOS] += ending
    codecs.save(folder / "codec")
    return write_model(
        folder / "model",
        recipe=config.dump(recipe),
        codec_folder=folder / "codec",
        tensors=named_tensors(network),
        facts={"step": 7},
    )


def drilled(recipe: Recipe, codecs: Codecs, *, steps: int) -> EncoderDecoder:
    """A model after some steps over the few sentences; every weight has moved, and what it says comes to an end."""
    model = build_model(recipe, codecs)
    assert isinstance(model, EncoderDecoder)
    source = pad([[*ids, EOS] for ids in codecs.source.encode_many(SOURCES)])
    targets = codecs.target.encode_many(TARGETS)
    inputs, wanted = pad([[BOS, *ids] for ids in targets]), pad([[*ids, EOS] for ids in targets])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    for _ in range(steps):
        logits, _state = model.advance(inputs.ids, *model.start(source))
        loss = F.cross_entropy(logits[wanted.mask], wanted.ids[wanted.mask])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model


def program_of(readme: Path) -> str:
    """The program in a README.txt, over lines that the model knows."""
    lines = [line[4:] for line in readme.read_text("utf-8").splitlines() if line.startswith("    ") or not line]
    known = "\n".join(lines).replace("one line", SOURCES[1]).replace("another line", SOURCES[3])
    assert SOURCES[3] in known
    return known
