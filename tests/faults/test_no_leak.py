"""What a command does stays here: no connection leaves the machine, and no secret reaches a file or a message."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from seqkit.training.saving import Saving
from tests.support.hostile import Ask

SECRETS = {
    "HF_TOKEN": "secret123",
    "AWS_ACCESS_KEY_ID": "AKIA0SECRET0KEY0ID0",
    "AWS_SECRET_ACCESS_KEY": "secret/access/key",
    "WANDB_API_KEY": "secret456",
    "USER": "secretuser",
    "LOGNAME": "secretuser",
}
TINY = (
    "text=words", "train.steps=2", "train.processes=1", "model.width=16", "model.heads=2", "model.feed_forward=16",
    "model.encoder_layers=1", "model.decoder_layers=1", "train.validate_every=1",
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "train.tsv"
    path.write_text("a b\tb a\nc\tc\n" * 5)
    return path


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every address that was looked up or connected to, but for those of this machine; none is reached."""
    found: list[object] = []

    def here(address: object) -> bool:
        return isinstance(address, str | bytes) or (
            isinstance(address, tuple) and str(address[0]) in ("127.0.0.1", "::1", "localhost")
        )

    def connect(self: socket.socket, address: Any) -> None:
        if not here(address):
            found.append(address)
            raise OSError("no connection may leave this machine")
        original(self, address)

    def look_up(host: object, *_: object, **__: object) -> list[Any]:
        found.append(host)
        raise OSError("no name may be looked up")

    original = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "gethostbyname", look_up)
    return found


def test_the_guard_notices(called: list[object]) -> None:
    with pytest.raises(OSError, match="no name"):
        socket.create_connection(("example.org", 80))
    with pytest.raises(OSError, match="no connection"), socket.socket() as one:
        one.connect(("192.0.2.1", 80))
    assert called == ["example.org", ("192.0.2.1", 80)]


def test_no_command_calls_anybody(corpus: Path, called: list[object], ask: Ask) -> None:
    run = corpus.parent / "run"
    lines = corpus.parent / "lines"
    lines.write_text("a b\n")
    for words in (
        ("train", "--train", corpus, "--dev", corpus, "--out", run, "--device", "cpu", *TINY),
        ("translate", run, "-i", lines, "-o", corpus.parent / "out", "--device", "cpu"),
        ("evaluate", run, corpus, "--metric", "bleu,chrf,ter", "--device", "cpu"),
        ("perplexity", run, corpus, "--device", "cpu"),
        ("model", "info", run),
        ("data", "stats", corpus),
    ):
        answer = ask(*words)
        assert answer.code == 0, (words, answer)
    for name in ("hf:name/data", "https://example.org/a.tsv"):
        ask.refused(3, "train", "--train", name, "train.steps=1")
        ask.refused(4, "model", "info", name)
    assert called == []


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, and an environment full of what must not be told."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return tmp_path


def kept(folder: Path, said: str) -> list[tuple[str, str]]:
    """Which secrets stand where."""
    texts = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [
        (name, secret)
        for name, text in {**texts, "said": said.encode()}.items()
        for secret in set(SECRETS.values())
        if secret.encode() in text
    ]


@pytest.mark.slow
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["log", "debug"])
def test_neither_a_run_nor_its_failure_tells_a_secret(
    debug: list[str], secretive: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    words: tuple[str | Path, ...] = ("train", "--train", corpus, "--dev", corpus, "--device", "cpu", *TINY, *debug)
    whole = ask(*words, "--out", secretive / "whole")
    assert whole.code == 0

    def fail(self: object, trainer: object, step: object) -> None:
        raise KeyError("something nobody foresaw")

    monkeypatch.setattr(Saving, "stepped", fail)
    broken = ask(*words, "--out", secretive / "broken")
    assert broken.code == 1
    assert "Traceback" in (secretive / "broken" / "train.log").read_text()
    logs = list((secretive / "home").rglob("*.log"))
    assert bool(logs) != bool(debug)  # the one or the other shows where
    assert kept(secretive, "".join((*whole[1:], *broken[1:]))) == []
