"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Threads that wait for each other cost more than they bring on tiny tensors. Read when torch is first imported, and by
# every program that a test starts; training takes no more threads than torch has.
os.environ["OMP_NUM_THREADS"] = "1"

# Shells start what runs in the background with interrupts ignored, and programs that tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("seqkit", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("seqkit")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small model that has begun to learn to spell words backwards; not to be written to."""
    from seqkit.config import build
    from seqkit.demo import reverse
    from seqkit.runs.session import train

    folder = tmp_path_factory.mktemp("trained")
    pairs = reverse(220, seed=1)
    for name, part in (("train", pairs[:200]), ("dev", pairs[200:])):
        rows = "".join(f"{source}\t{target}\n" for source, target in part)
        (folder / f"{name}.tsv").write_text(rows, encoding="utf-8")
    sizes = {"width": 32, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "feed_forward": 64, "dropout": 0.0}
    recipe = build(
        {
            "name": "backwards",
            "data": {
                "train": [str(folder / "train.tsv")],
                "dev": [str(folder / "dev.tsv")],
                "source": "word",
                "target": "drow",
            },
            "text": {"kind": "words", "split": "spaces"},
            "model": {"kind": "transformer", **sizes},
            "train": {
                "steps": 60,
                "batch_tokens": 512,
                "learning_rate": 5e-3,
                "schedule": {"kind": "linear", "warmup": 10},
                "label_smoothing": 0.0,
                "validate_every": 60,
                "processes": 1,
            },
            "search": {"beam": 3},
        },
        where="the test",
    )
    train(recipe, out=folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture(scope="session")
def language_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and small language models of them; see `write_language_runs`. Not to be written to."""
    from tests.support.language_runs import write_language_runs

    return write_language_runs(tmp_path_factory.mktemp("language"))
