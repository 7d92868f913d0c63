"""OpenNMT-py training the benchmark's recurrent model, for `train.py --size rnn --opennmt FOLDER`.

FOLDER holds it (`pip install --no-deps --target FOLDER OpenNMT-py==3.5.1 configargparse pyonmttok six waitress
pyyaml`), with an empty module beside it for each import of a transform that nothing here uses (spacy, ahocorasick,
rapidfuzz, fasttext).
The model is ours: bidirectional GRU, additive attention without input feeding, one embedding matrix, Adam, label
smoothing, batches of as many padded tokens; read are the pieces that our text layer makes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from seqkit.data import read_pairs
from seqkit.settings import Recipe, Recurrent
from seqkit.system.host import cores
from seqkit.tasks import Task

__all__ = ["rates"]

SPOKEN = re.compile(r"/\s*(\d+) tok/s")  # target tokens a second since the last report
STARTING = 180.0  # seconds
WARMING = 3  # steps


def rates(package: Path, recipe: Recipe, task: Task, files: Path, seconds: float) -> tuple[list[float], float]:
    """Target tokens a second of each step for so many seconds, and what its processes held at most, in MiB."""
    settings = recipe.model
    assert isinstance(settings, Recurrent)
    _write(task, files)
    options = {
        "src_vocab": files / "vocabulary",
        "tgt_vocab": files / "vocabulary",
        "encoder_type": "brnn",
        "decoder_type": "rnn",
        "rnn_type": "GRU",
        "hidden_size": settings.width,
        "word_vec_size": settings.embedding,
        "layers": 1,
        "global_attention": "mlp",
        "input_feed": 0,
        "dropout": settings.dropout,
        "optim": "adam",
        "learning_rate": recipe.train.learning_rate,
        "label_smoothing": 0.1,
        "batch_type": "tokens",
        "batch_size": recipe.train.batch_tokens,
        "bucket_size": 29_000,  # an epoch is read before the first step
        "num_workers": 1,
        "report_every": 1,
        "train_steps": 100_000,
        "save_checkpoint_steps": 1_000_000,
        "save_model": files / "opennmt",
    }
    lines = [f"{key}: {value}" for key, value in options.items()]
    lines += ["share_vocab: true", "share_embeddings: true", "share_decoder_embeddings: true", "bridge: true"]
    lines += ["data:", "  own:", f"    path_src: {files / 'pieces.src'}", f"    path_tgt: {files / 'pieces.tgt'}"]
    (files / "opennmt.yaml").write_text("\n".join(lines) + "\n")
    log = files / "opennmt.log"
    with log.open("w") as target:
        process = subprocess.Popen(
            [sys.executable, "-m", "onmt.bin.train", "-config", str(files / "opennmt.yaml")],
            env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": str(cores())},
            stdout=target,
            stderr=target,
            start_new_session=True,  # it starts processes of its own, which outlive it
        )
        try:
            return _watch(process, log, seconds)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(process: subprocess.Popen[bytes], log: Path, seconds: float) -> tuple[list[float], float]:
    end, began = time.monotonic() + STARTING, False
    while time.monotonic() < end:
        spoken = SPOKEN.findall(log.read_text())
        if len(spoken) >= WARMING and not began:
            end, began = time.monotonic() + seconds, True
        if process.poll() is not None:
            raise SystemExit(f"OpenNMT-py ended:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return [float(rate) for rate in spoken[WARMING:]], _held(process.pid)


def _held(group: int) -> float:
    """The largest resident size of the processes of a group, in MiB, summed."""
    sizes = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.getpgid(int(folder.name)) == group:
                size = re.search(r"VmHWM:\s*(\d+)", (folder / "status").read_text())
                sizes += int(size[1]) if size else 0
    return sizes / 1024


def _write(task: Task, files: Path) -> None:
    """The text in our pieces, and the list of all pieces."""
    codec = task.codecs.target
    pairs = read_pairs([str(files / "train.en"), str(files / "train.de")])
    for name, lines in (("pieces.src", pairs.source), ("pieces.tgt", pairs.target)):
        _pieces(files / name, [codec.tokens(codec.encode(line)) for line in lines])
    known = [piece for piece in codec.tokens(range(len(codec))) if piece.split() == [piece]]  # else it is no line there
    _pieces(files / "vocabulary", [[piece, "1"] for piece in known])


def _pieces(path: Path, lines: Sequence[Sequence[str]]) -> None:
    path.write_text("".join(" ".join(line) + "\n" for line in lines), encoding="utf-8")
