"""Small language models of one text: an LSTM and a 3-gram of a stream, a model of lines, and one of characters."""

from __future__ import annotations

from pathlib import Path

from seqkit.cli.main import main

__all__ = ["write_language_runs"]

TALE = "the cat saw a dog and the dog saw the cat in a house near the old river"
WORDS = TALE.split()


def text(lines: int, *, seed: int) -> str:
    """Lines of three to nine words that follow each other in a pattern."""
    return "".join(
        " ".join(WORDS[(seed + 3 * i + j * (1 + i % 2)) % len(WORDS)] for j in range(3 + (i * 7 + seed) % 7)) + "\n"
        for i in range(lines)
    )


def write_language_runs(here: Path) -> Path:
    """Texts (train, dev and test.txt) and runs (lstm, ngram, lines and letters) in a folder."""
    for name, lines, seed in (("train", 80, 1), ("dev", 12, 5), ("test", 15, 9)):
        (here / f"{name}.txt").write_text(text(lines, seed=seed), encoding="utf-8")
    data = [f'data.train=["{here / "train.txt"}"]', f'data.dev=["{here / "dev.txt"}"]', "train.processes=1"]
    stream = ["data.kind=stream", "data.window=8", "train.batch_tokens=64", "train.learning_rate=0.01"]
    words = ["text.kind=words", "text.split=spaces"]
    small = ["model.width=12", "model.embedding=12", "train.steps=30", "train.schedule=constant"]
    runs = {
        "lstm": [*stream, *words, "model.kind=recurrent_language_model", *small],
        "ngram": ["data.kind=stream", *words, "model.kind=ngram", "model.order=3"],
        "lines": ["data.kind=lines", *words, "model.kind=recurrent_language_model", *small],
        "letters": ["data.kind=stream", "text.kind=characters", "model.kind=ngram", "model.order=3"],
    }
    for name, settings in runs.items():
        words_ = ["-q", "train", "--train", str(here / "train.txt"), "--out", str(here / name), *data, *settings]
        assert main(words_) == 0
    return here
