"""`seqkit train` and `seqkit demo` as typed: mistakes are two lines with the right exit code; the demo does it all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqkit.cli.main import main
from seqkit.demo import numbers

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a small parallel corpus and a recipe for it."""
    monkeypatch.chdir(tmp_path)
    pairs = numbers(120, seed=1)
    for side, language in enumerate(("en", "de")):
        (tmp_path / f"train.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(
        "\n".join(
            [
                'name = "small"',
                "[data]",
                'train = ["train.{en,de}"]',
                'dev = ["train.{en,de}"]',
                "[text]",
                'kind = "characters"',
                "[model]",
                'kind = "transformer"',
                "width = 16",
                "heads = 2",
                "encoder_layers = 1",
                "decoder_layers = 1",
                "feed_forward = 16",
                "[train]",
                "steps = 3",
                "batch_tokens = 512",
                "processes = 1",
            ]
        ),
        encoding="utf-8",
    )
    return tmp_path


def told(captured: Captured) -> list[str]:
    """What an ended command said on stderr, which must be two lines without a traceback."""
    out, err = captured.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("seqkit: error: ")
    assert lines[1].startswith("hint: ")
    assert not re.search(r"Traceback|Exception|assert|seqkit\.\w+\.\w+Error", err)
    return lines


def test_a_misspelt_key_names_the_right_one(corpus: Path, capsys: Captured) -> None:
    text = (corpus / "recipe.toml").read_text(encoding="utf-8").replace("batch_tokens", "batch_tokns")
    (corpus / "recipe.toml").write_text(text, encoding="utf-8")
    assert main(["train", "recipe.toml"]) == 2
    what, hint = told(capsys)
    assert "train.batch_tokns" in what
    assert "line 16" in what
    assert "train.batch_tokens" in hint


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["train", "recipe.tml"], 2, "recipe.toml"),
        (["train"], 2, "--train"),
        (["train", "recipe.toml", "data.train=[train.en, train.ed]"], 3, "train.ed"),
        (["train", "recipe.toml", "model.kind=transfomer"], 2, "transformer"),
        (["train", "recipe.toml", "model.heads=3"], 2, "heads"),
        (["train", "recipe.toml", "train.steps=none"], 2, "train.steps"),
        (["train", "recipe.toml", "--device", "tpu0"], 2, "cuda"),
        (["train", "recipe.toml", "train.batch_tokens=4"], 2, "train.batch_tokens"),
        (["train", "recipe.toml", "--ou", "x"], 2, "--out"),
        (["trian", "recipe.toml"], 2, "seqkit train"),
        (["train", "recipe.toml", 'text={kind = "sentencepiece", size = 20000}'], 2, "text.size"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    words: list[str], code: int, named: str, corpus: Path, capsys: Captured
) -> None:
    assert main(words) == code
    assert named in " ".join(told(capsys))
    assert not list(corpus.glob("runs/*/checkpoints/step-*"))


def test_files_that_do_not_match_line_by_line_are_refused(corpus: Path, capsys: Captured) -> None:
    lines = (corpus / "train.de").read_text(encoding="utf-8").splitlines(keepends=True)
    (corpus / "train.de").write_text("".join(lines[:40] + lines[41:]), encoding="utf-8")
    assert main(["train", "recipe.toml"]) == 3
    what, _ = told(capsys)
    assert "120" in what
    assert "119" in what


def test_bytes_that_are_not_text_are_placed(corpus: Path, capsys: Captured) -> None:
    content = (corpus / "train.de").read_bytes().split(b"\n")
    content[46] = b"\xff" + content[46]
    (corpus / "train.de").write_bytes(b"\n".join(content))
    assert main(["train", "recipe.toml"]) == 3
    what, hint = told(capsys)
    assert "train.de" in what
    assert "47" in what
    assert "data.bad_utf8=skip" in hint
    assert main(["-q", "train", "recipe.toml", "data.bad_utf8=skip"]) == 0


def test_the_same_command_goes_on_and_a_finished_run_stays(corpus: Path, capsys: Captured) -> None:
    assert main(["train", "recipe.toml", "--out", "run", "train.schedule=constant"]) == 0
    assert "step=3" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in (corpus / "run" / "checkpoints").rglob("*")}
    assert main(["train", "recipe.toml", "--out", "run", "train.schedule=constant"]) == 0
    assert "already complete" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (corpus / "run" / "checkpoints").rglob("*")} == before
    assert main(["train", "recipe.toml", "--out", "run", "train.schedule=constant", "train.steps=5"]) == 0
    assert "resuming run at step 3" in capsys.readouterr().err
    assert main(["train", "recipe.toml", "--out", "run", "model.width=32"]) == 2
    assert "model.width" in told(capsys)[0]


def test_another_limit_for_a_falling_rate_needs_to_be_wished(corpus: Path, capsys: Captured) -> None:
    assert main(["-q", "train", "recipe.toml", "--out", "run", "train.schedule=linear"]) == 0
    capsys.readouterr()
    longer = ["train", "recipe.toml", "--out", "run", "train.schedule=linear", "train.steps=5"]
    assert main(longer) == 2
    what, hint = told(capsys)
    assert "train.steps = 3, and now it is 5" in what
    assert "--extend" in hint
    assert main([*longer, "--extend"]) == 0
    err = capsys.readouterr().err
    assert "resuming run at step 3" in err
    assert "now falls towards step 5, not 3" in err


def test_a_damaged_checkpoint_is_named(trained: Path, tmp_path: Path, capsys: Captured) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for path in run.glob("checkpoints/step-*/model.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    source = tmp_path / "in.txt"
    source.write_text("a b c\n", encoding="utf-8")
    assert main(["translate", str(run), "-i", str(source), "-o", str(tmp_path / "out.txt")]) == 4
    what = capsys.readouterr().err
    assert "checkpoint" in what
    assert "Traceback" not in what
    assert not (tmp_path / "out.txt").exists()


def test_files_alone_make_a_recipe(corpus: Path) -> None:
    words = ["train", "--train", "train.en", "train.de", "--out", "own", "text=characters", "model.width=16"]
    more = ["model.heads=2", "model.feed_forward=16", "train.steps=2", "train.processes=1", "train.batch_tokens=512"]
    assert main(["-q", *words, *more]) == 0
    assert (corpus / "own" / "model" / "model.safetensors").exists()
    assert "width = 16" in (corpus / "own" / "recipe.toml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_signals_save_and_the_same_command_goes_on(corpus: Path) -> None:
    words = [sys.executable, "-m", "seqkit", "train", "recipe.toml", "--out", "run", "train.log_seconds=0.1"]
    words += ["train.steps=100000", "train.schedule=constant", "train.validate_every=50000", "train.save_minutes=600"]
    told = corpus / "stderr.txt"
    with told.open("wb") as stderr:
        process = subprocess.Popen(words, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 200
        while b"step=" not in told.read_bytes():
            assert process.poll() is None, told.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, told.read_text(encoding="utf-8")
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)  # save, and go on
        while not list(corpus.glob("run/checkpoints/step-*")):
            assert process.poll() is None, told.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, told.read_text(encoding="utf-8")
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=200) == 130, told.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()
    assert "all saved" in told.read_text(encoding="utf-8")
    assert list(corpus.glob("run/checkpoints/step-*"))
    assert main(["-q", "train", "recipe.toml", "--out", "run", "train.schedule=constant", "train.steps=1"]) == 0
