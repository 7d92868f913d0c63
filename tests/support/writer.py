"""Language models for tests: small trained ones, and untrained ones whose texts are wild."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from seqkit.config import build
from seqkit.inference.writer import Writer
from seqkit.runs.network import build_model
from seqkit.runs.session import train
from seqkit.runs.trained_model import TrainedModel
from seqkit.system.device import CPU
from seqkit.text.codec import Codec, Codecs

SENTENCES = ("the cat sat on the mat.", "the dog ran to the cat.", "a bird sang.")


def tiny_run(folder: Path, kind: Literal["stream", "lines"]) -> Path:
    """The run folder of a character model that knows three sentences; takes a second."""
    (folder / "train.txt").write_text("\n".join(SENTENCES * 40) + "\n", encoding="utf-8")
    recipe = build(
        {
            "name": kind,
            "data": {"kind": kind, "train": [str(folder / "train.txt")]},
            "text": {"kind": "characters"},
            "model": {"kind": "recurrent_language_model", "cell": "gru", "width": 48, "embedding": 32},
            "train": {
                "steps": 60,
                "batch_tokens": 512,
                "learning_rate": 2e-2,
                "schedule": {"kind": "linear", "warmup": 5},
                "processes": 1,
            },
        },
        where="the test",
    )
    train(recipe, out=folder / kind, device="cpu")
    return folder / kind


def untrained(
    lines: list[str],
    *,
    text: dict[str, object],
    kind: Literal["stream", "lines"] = "stream",
    model: dict[str, object] | None = None,
    window: int = 64,
) -> Writer:
    """A writer with random weights whose text layer was learnt from these lines."""
    data = {"kind": kind, "train": ["none"], **({"window": window} if kind == "stream" else {})}
    small = {"kind": "recurrent_language_model", "width": 8, "embedding": 8}
    recipe = build({"data": data, "text": text, "model": model or small}, where="the test")
    codec = Codec.learn(lines, recipe.text)
    codecs = Codecs(codec, codec)
    with torch.random.fork_rng():
        network = build_model(recipe, codecs).eval()
    return Writer(TrainedModel(Path("none"), recipe, codecs, network, {}), device=CPU)
