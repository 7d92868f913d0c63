"""Translation models for export: small, but every weight has moved, so that none can be forgotten or misplaced."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from seqkit import config
from seqkit.assemble import build_model
from seqkit.batch import pad
from seqkit.config import build
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.settings import Recipe
from seqkit.text.codec import Codecs
from seqkit.text.vocabulary import BOS, EOS
from seqkit.train.model_folder import write_model
from seqkit.train.weights import named_tensors

SOURCES = ["a cat sat on the mat", "two dogs ran", "the cat saw the dogs", "a dog sat", "on the mat the cats ran"]
TARGETS = ["eine Katze saß auf der Matte", "zwei Hunde liefen", "die Katze sah die Hunde", "ein Hund saß", "ja"]
SEARCH = {"beam": 4, "maximum_length": 20, "maximum_extra": 20}

WORDS = {"kind": "words"}
CHARACTERS = {"kind": "characters", "joint": False}
PIECES = {"kind": "sentencepiece", "size": 300}
STEPS = 40
SMALL = {"width": 12, "heads": 2, "feed_forward": 20, "encoder_layers": 2, "decoder_layers": 2}


def tiny_model(folder: Path, *, text: dict[str, object], model: dict[str, object], dev: bool = False) -> Path:
    """A model folder that knows a few sentences by half; takes half a second."""
    folder.mkdir(parents=True, exist_ok=True)
    data: dict[str, object] = {"train": ["none"], "source": "en", "target": "de", "maximum_length": 40}
    if dev:
        rows = "".join(f"{source}\t{target}\n" for source, target in zip(SOURCES, TARGETS, strict=True))
        (folder / "dev.tsv").write_text(rows, encoding="utf-8")
        data["dev"] = [str(folder / "dev.tsv")]
    sections = {"data": data, "text": text, "model": {**SMALL, **model}, "search": SEARCH}
    recipe = build({"name": "toy", **sections}, where="the test")
    codecs = Codecs.learn(SOURCES, TARGETS, recipe.text)
    with torch.random.fork_rng():
        network = drilled(recipe, codecs)
    codecs.save(folder / "codec")
    return write_model(
        folder,
        recipe=config.dump(recipe),
        codec_folder=folder / "codec",
        tensors=named_tensors(network),
        facts={"step": 7},
    )


def drilled(recipe: Recipe, codecs: Codecs) -> EncoderDecoder:
    """A model after some steps over the few sentences; every weight has moved, and what it says comes to an end."""
    model = build_model(recipe, codecs)
    assert isinstance(model, EncoderDecoder)
    source = pad([[*ids, EOS] for ids in codecs.source.encode_many(SOURCES)])
    targets = codecs.target.encode_many(TARGETS)
    inputs, wanted = pad([[BOS, *ids] for ids in targets]), pad([[*ids, EOS] for ids in targets])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(STEPS):
        logits, _state = model.advance(inputs.ids, *model.start(source))
        loss = F.cross_entropy(logits[wanted.mask], wanted.ids[wanted.mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
