"""Run and model folders from anywhere: whatever is in them, the answer is a model or exit code 4 and a reason."""

from __future__ import annotations

import json
import math
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqkit.data.datasets import Encoded
from seqkit.errors import DataError, ModelError
from seqkit.storage.manifest import read_tensors
from tests.support.hostile import (
    Ask,
    Spoil,
    bombs,
    content,
    copy,
    gone,
    link,
    pipe,
    safetensors,
    seal,
    subfolder,
    tensor,
)

STEP = "checkpoints/step-00000060"
# What a run folder is read from; the files of a checkpoint are sealed by its manifest, those of the codec by its own.
READ = (
    "recipe.toml",
    "codec/manifest.json",
    "codec/joint/settings.json",
    "codec/joint/vocabulary.tsv",
    "checkpoints/best.json",
    f"{STEP}/manifest.json",
    f"{STEP}/training.json",
    f"{STEP}/model.safetensors",
    f"{STEP}/optimizer.safetensors",
)
BIAS = "decoder.layers.0.around_attention.norm.bias"
DEEP = b'{"format": 1, "seqkit": "", "files": ' + b"[" * 100_000
BAD_UTF8 = b'{"format": 1, "seqkit": "\xff", "files": {}, "facts": {}}'


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


@pytest.mark.parametrize("kind", ["pickle", "text", "npy"])
def test_the_bombs_are_real(kind: str, canary: Path) -> None:
    path = canary.parent / "bomb.npy"
    path.write_bytes(bombs(canary)[kind])
    np.load(path, allow_pickle=True)
    assert canary.exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READ)
def test_no_file_of_a_run_is_a_program(name: str, trained: Path, canary: Path, ask: Ask) -> None:
    run = copy(trained, canary.parent)
    for bomb in bombs(canary).values():
        (run / name).write_bytes(bomb)
        ask.refused(4, "model", "info", run)
        ask.refused(4, "translate", run, "-i", trained / "recipe.toml")
        answer = ask("train", trained / "recipe.toml", "--out", run, "--device", "cpu", "-q")
        # No note of the best is no harm to a run that is complete.
        assert answer.code == (0 if name.endswith("best.json") else 4), answer
    assert not canary.exists()


@pytest.mark.parametrize("name", ["recipe.toml", "codec/joint/settings.json", "codec/joint/vocabulary.tsv"])
def test_a_manifest_makes_no_program_of_a_file(name: str, trained: Path, canary: Path, ask: Ask) -> None:
    model = copy(trained / "model", canary.parent)
    for bomb in bombs(canary).values():
        (model / name).write_bytes(bomb)
        seal(model, codec=True)
        ask.refused(4, "model", "info", model)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["log.jsonl", "status.json", "samples.tsv", "train.log", "lock"])
def test_what_a_run_only_writes_is_no_program_either(name: str, trained: Path, canary: Path, ask: Ask) -> None:
    run = copy(trained, canary.parent)
    for bomb in bombs(canary).values():
        (run / name).write_bytes(bomb)
        assert ask("train", trained / "recipe.toml", "--out", run, "--device", "cpu", "-q").code == 0
    assert not canary.exists()


@pytest.mark.parametrize("part", ["ids", "offsets"])
def test_no_cache_of_ids_is_a_program(part: str, canary: Path) -> None:
    prefix = canary.parent / "text"
    for bomb in bombs(canary).values():
        Encoded.from_lists([[4, 5]]).save(prefix)
        Path(f"{prefix}.{part}.npy").write_bytes(bomb)
        with pytest.raises(DataError):
            Encoded.load(prefix)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_no_text_is_a_program(suffix: str, trained: Path, canary: Path, ask: Ask) -> None:
    path = canary.parent / f"text.tsv{suffix}"
    for bomb in bombs(canary).values():
        path.write_bytes(bomb)
        ask.refused(3, "train", "--train", path, "--out", canary.parent / "run", "train.steps=1", "--device", "cpu")
        ask.refused(3, "evaluate", trained, path, "--device", "cpu")
        if suffix or b"\0" in bomb:
            ask("translate", trained, "-i", path, "--device", "cpu")
            ask("translate", trained, "-i", trained / "recipe.toml", "--terms", path, "--device", "cpu")
    assert not canary.exists()


# Whatever stands in the place of a file


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READ)
def test_what_is_no_plain_file_is_not_opened(name: str, trained: Path, tmp_path: Path, ask: Ask) -> None:
    for place, spoil in enumerate((pipe(name), subfolder(name), link(name))):
        (tmp_path / str(place)).mkdir()
        run = copy(trained, tmp_path / str(place))
        spoil(run)
        ask.refused(4, "model", "info", run)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    "replacement",
    [b"", b"\0" * 100, b"\xff\xfe", b"null", b"{}", b"[]", BAD_UTF8, DEEP, b'{"format": 1' + b"0" * 5000 + b"}"],
    ids=["empty", "zeros", "binary", "null", "table", "list", "bad-utf8", "deep", "number"],
)
def test_foreign_content_is_refused(name: str, replacement: bytes, trained: Path, tmp_path: Path, ask: Ask) -> None:
    run = copy(trained, tmp_path)
    (run / name).write_bytes(replacement)
    ask.refused(4, "model", "info", run)


@pytest.mark.parametrize("name", [name for name in READ if not name.endswith("best.json")])
def test_what_is_missing_is_named(name: str, trained: Path, tmp_path: Path, ask: Ask) -> None:
    run = copy(trained, tmp_path)
    gone(name)(run)
    assert Path(name).name in ask.refused(4, "model", "info", run)


def test_training_facts_outside_of_the_manifest_are_not_read(trained: Path, tmp_path: Path, ask: Ask) -> None:
    run = copy(trained, tmp_path)
    path = run / STEP / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"] = [entry for entry in manifest["files"] if entry["name"] != "training.json"]
    path.write_text(json.dumps(manifest))
    assert "training.json" in ask.refused(4, "model", "info", run)


# Folders whose checksums are right, made by somebody who means harm


def setting(section: str, key: str, value: str) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "recipe.toml"
        text, changes = re.subn(
            rf"(?ms)(^\[{section}\]$.*?^{key} = )[^\n]*", rf"\g<1>{value}", path.read_text(), count=1
        )
        assert changes == 1
        path.write_text(text)

    return spoil


def weights(change: Callable[[dict[str, Tensor]], Any]) -> Spoil:
    """Change the tensors in place, or give others."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        save_file(change(tensors) or tensors, path)

    return spoil


def number(value: float) -> Spoil:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[BIAS][0] = value

    return weights(change)


def types(dtype: torch.dtype) -> Spoil:
    return weights(lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})


def file_of_tensors(header: object, data: bytes = b"", *, claimed: int | None = None) -> Spoil:
    return content("model.safetensors", safetensors(header, data, claimed=claimed))


VOCABULARY = b"<pad>\t0\n<s>\t0\n</s>\t0\n<unk>\t0\n"

MALFORMED: dict[str, Spoil] = {
    "recipe: no TOML": content("recipe.toml", b"a = = 1"),
    "recipe: empty": content("recipe.toml", b""),
    "recipe: binary": content("recipe.toml", b"\x80\x04"),
    "recipe: deep": content("recipe.toml", b"a = " + b"[" * 100_000),
    "recipe: large": content("recipe.toml", b"#" * (1 << 21)),
    "recipe: kind": setting("model", "kind", '"os.system"'),
    "recipe: address": setting("model", "kind", '"https://example.org/model"'),
    "recipe: repository": setting("model", "kind", '"organisation/model"'),
    "recipe: other kind": setting("model", "kind", '"plain"'),
    "recipe: no heads": setting("model", "heads", "0"),
    "recipe: odd width": setting("model", "width", "31"),
    "recipe: width": setting("model", "width", "1048576"),
    "recipe: width beyond numbers": setting("model", "width", str(2**62)),
    "recipe: inner size": setting("model", "feed_forward", str(2**40)),
    "recipe: inner size beyond numbers": setting("model", "feed_forward", str(2**62)),
    "recipe: layers": setting("model", "encoder_layers", "100"),
    "recipe: layers without end": setting("model", "encoder_layers", str(10**9)),
    "recipe: positions": setting("model", "positions", '"learned"'),
    "recipe: tied": setting("model", "tied", '"none"'),
    "tensors: one missing": weights(lambda tensors: {name: tensors[name] for name in tensors if name != BIAS}),
    "tensors: one more": weights(lambda tensors: {**tensors, "more": torch.zeros(1)}),
    "tensors: a name to be shown": weights(lambda tensors: {**tensors, "\x1b[2J\n\u202e" * 999: torch.zeros(1)}),
    "tensors: none": weights(lambda tensors: {"more": torch.zeros(1)}),
    "tensors: another shape": weights(lambda tensors: {**tensors, BIAS: torch.zeros(31)}),
    "tensors: nan": number(math.nan),
    "tensors: infinite": number(-math.inf),
    "tensors: integers": types(torch.int32),
    "tensors: truth values": types(torch.bool),
    "tensors: complex": types(torch.complex64),
    "tensors: eight bits": types(torch.float8_e4m3fn),
    "weights: empty": content("model.safetensors", b""),
    "weights: eight bytes": content("model.safetensors", bytes(8)),
    "weights: header of 2^40": file_of_tensors(b"{}", claimed=2**40),
    "weights: header of 2^63": file_of_tensors(b"{}", claimed=2**63),
    "weights: header of 9 MB": file_of_tensors(b"{}", b" " * 9_000_000, claimed=9_000_002),
    "weights: header cut": file_of_tensors(b'{"a":'),
    "weights: header deep": file_of_tensors(b'{"a":' + b"[" * 100_000),
    "weights: header no text": file_of_tensors(b'{"\xff": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'),
    "weights: header a list": file_of_tensors([]),
    "weights: overlap": file_of_tensors({"a": tensor("F32", [2], 0, 8), "b": tensor("F32", [2], 4, 12)}, bytes(12)),
    "weights: hole": file_of_tensors({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 8, 12)}, bytes(12)),
    "weights: beyond the end": file_of_tensors({"a": tensor("F32", [2**20], 0, 2**22)}, bytes(8)),
    "weights: backwards": file_of_tensors({"a": tensor("F32", [2], 8, 0)}, bytes(8)),
    "weights: shape overflows": file_of_tensors({"a": tensor("F32", [2**40, 2**40], 0, 8)}, bytes(8)),
    "weights: shape negative": file_of_tensors({"a": tensor("F32", [-2], 0, 8)}, bytes(8)),
    "weights: shape of nothing": file_of_tensors({"a": tensor("F32", [0, 2**63], 0, 0)}),
    "weights: type of another size": file_of_tensors({"a": tensor("F64", [2], 0, 8)}, bytes(8)),
    "weights: type unknown": file_of_tensors({"a": tensor("OBJECT", [2], 0, 8)}, bytes(8)),
    "weights: type without numbers": file_of_tensors({"a": tensor("F4", [16], 0, 8)}, bytes(8)),
    "text: no JSON": content("codec/joint/settings.json", b'{"kind": "words"'),
    "text: bad UTF-8": content("codec/joint/settings.json", b'{"kind": "words", "split": "\xff"}'),
    "text: deep": content("codec/joint/settings.json", b"[" * 100_000),
    "text: kind": content("codec/joint/settings.json", b'{"kind": "os.system"}'),
    "text: pieces without a model": content("codec/joint/settings.json", b'{"kind": "sentencepiece"}'),
    "vocabulary: empty": content("codec/joint/vocabulary.tsv", b""),
    "vocabulary: bad UTF-8": content("codec/joint/vocabulary.tsv", VOCABULARY + b"\xff\t1\n"),
    "vocabulary: twice": content("codec/joint/vocabulary.tsv", VOCABULARY + b"a\t1\na\t1\n"),
    "vocabulary: count": content("codec/joint/vocabulary.tsv", VOCABULARY + b"a\t1" + b"0" * 5000 + b"\n"),
    "vocabulary: another size": content("codec/joint/vocabulary.tsv", VOCABULARY + b"a\t1\n"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("spoil", MALFORMED.values(), ids=MALFORMED)
def test_a_sealed_model_that_is_none_is_one_line(spoil: Spoil, trained: Path, tmp_path: Path, ask: Ask) -> None:
    model = copy(trained / "model", tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB
    spoil(model)
    seal(model, codec=True)
    ask.refused(4, "model", "info", model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    "change",
    [
        lambda written: written["files"].clear(),
        lambda written: written["files"][0].update(size=-1),
        lambda written: written["files"][0].update(size=10**30),
        lambda written: written["files"][0].update(sha256="\x1b[2J"),
        lambda written: written["files"][0].update(name="\x1b[2J"),
        lambda written: written["files"][0].update(name="../recipe.toml"),
        lambda written: written["files"][0].update(name="/dev/zero"),
        lambda written: written["files"][0].update(name="x" * 5000),
        lambda written: written["files"].append({"name": "codec", "size": 4096, "sha256": ""}),
        lambda written: written.update(files=written["files"] * 9000),
        lambda written: written.update(format=2, seqkit="9\n\x1b[2J\nhint: run this"),
        lambda written: written.update(format="1"),
        lambda written: written.update(facts=[]),
    ],
)
def test_a_manifest_with_wrong_facts_is_one_line(
    change: Callable[[dict[str, Any]], object], trained: Path, tmp_path: Path, ask: Ask
) -> None:
    model = copy(trained / "model", tmp_path)
    path = model / "manifest.json"
    written = json.loads(path.read_bytes())
    change(written)
    path.write_text(json.dumps(written))
    said = ask.refused(4, "model", "info", model)
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "written",
    [
        {"format": 1, "seqkit": "1", "files": {}},
        {"format": 1, "seqkit": "1", "files": {"../../recipe.toml": {"size": 1, "sha256": ""}}},
        {"format": 1, "seqkit": "1", "files": {f"joint/{'x' * 5000}.tsv": {"size": 1, "sha256": ""}}},
        {"format": 2, "seqkit": "9\n\x1b[2J\nhint: run this", "files": {}},
    ],
)
def test_a_text_layer_with_a_wrong_manifest_is_one_line(
    written: dict[str, Any], trained: Path, tmp_path: Path, ask: Ask
) -> None:
    run = copy(trained, tmp_path)
    (run / "codec" / "manifest.json").write_text(json.dumps(written))
    assert "\x1b" not in ask.refused(4, "model", "info", run)


def test_facts_are_shown_escaped(trained: Path, tmp_path: Path, ask: Ask) -> None:
    model = copy(trained / "model", tmp_path)
    path = model / "manifest.json"
    written = json.loads(path.read_bytes())
    written["facts"] = {"step": "\x1b[2J\n", "metric": "\u202e[bold]", "score": [[[]]]}
    path.write_text(json.dumps(written))
    answer = ask("model", "info", model)
    assert answer.code == 0
    assert "\\x1b[2J\\n" in answer.out
    assert "\\u202e[bold]" in answer.out


@pytest.mark.parametrize(
    "name", ["", "/dev/null", "/dev/zero", "/etc/passwd", "nowhere", "x" * 5000, "x/" * 3000], ids=range(7)
)
def test_what_is_no_folder_is_one_line(name: str, ask: Ask) -> None:
    ask.refused(4, "model", "info", name)
    ask.refused(4, "translate", name, "-i", "/dev/null")


def test_an_unsealed_pointer_cannot_lead_out(trained: Path, tmp_path: Path, ask: Ask) -> None:
    run = copy(trained, tmp_path)
    for step in (-1, 61, 10**30):  # none of which stands there: the newest is taken
        (run / "checkpoints" / "best.json").write_text(json.dumps({"step": step, "score": 1.0, "metric": "\x1b[2J"}))
        answer = ask("model", "info", run)
        assert answer.code == 0
        assert "\x1b" not in answer.out


# Tokenizers


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_damaged_sentencepiece_model_never_reaches_its_parser(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqkit.settings import SentencePiece
    from seqkit.text import tokenizers
    from seqkit.text.codec import Codecs

    lines = ["the cat sat on the mat", "a dog ate the bone"] * 9
    Codecs.learn(lines, lines, SentencePiece(size=300)).save(tmp_path)
    path = tmp_path / "joint" / "sentencepiece.model"
    whole = path.read_bytes()
    opened: list[bytes] = []
    monkeypatch.setattr(tokenizers, "SentencePieceTokenizer", lambda model: opened.append(model))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for damaged in (whole[:size], bytes(flipped), whole + b"\n\xff\xff\xff\x7f", b"\n" + b"\xff" * 200_000):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"sentencepiece\.model is damaged"):
            Codecs.load(tmp_path)
    assert not opened


# Counted models


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {**tensors, "keys": tensors["keys"].flip(0)},
        lambda tensors: {**tensors, "keys": -tensors["keys"].flip(0)},
        lambda tensors: {**tensors, "keys": torch.tensor(1)},
        lambda tensors: {**tensors, "interpolated": tensors["interpolated"].long()},
        lambda tensors: {**tensors, "backoffs": tensors["backoffs"] * math.nan},
    ],
)
def test_an_n_gram_model_that_cannot_be_searched_is_refused(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> None:
    from seqkit.models.ngram import NGramModel
    from seqkit.settings import NGram

    settings = NGram(order=2)
    model = NGramModel.fit(settings, [np.array([4, 5, 6, 4, 5, 2], dtype=np.int32)], vocabulary=7)
    with pytest.raises(ModelError):
        NGramModel.from_tensors(settings, change(model.tensors()), vocabulary=7)


# The long tier


@pytest.mark.slow
def test_a_million_names_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    names = ",".join(f'"{place}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for place in range(10**6))
    path.write_bytes(safetensors(f"{{{names}}}".encode()))
    with pytest.raises(ModelError, match="its header claims"):
        read_tensors(path)


def spoiled(run: Path, draw: random.Random) -> Path:
    """Change something in one file of a folder; which one it was."""
    path = draw.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    whole = bytearray(path.read_bytes())
    place = draw.randrange(len(whole)) if whole else 0
    match draw.choice(("flip", "cut", "insert", "zero")):
        case "flip" if whole:
            whole[place] ^= 1 << draw.randrange(8)
        case "cut":
            del whole[place : place + draw.choice((1, 100, 10**6))]
        case "insert":
            whole[place:place] = draw.randbytes(draw.choice((1, 8, 1000)))
        case _:
            whole[place : place + 8] = bytes(len(whole[place : place + 8]))
    path.write_bytes(whole)
    return path.relative_to(run)


@pytest.mark.long
@pytest.mark.parametrize("part", ["", "model"])
def test_damage_anywhere_is_harmless_or_refused(part: str, trained: Path, tmp_path: Path, ask: Ask) -> None:
    draw = random.Random(1)
    lines = tmp_path / "lines"
    lines.write_text("h a t\nm a t e\n")
    before = ask("translate", trained / part, "-i", lines, "--device", "cpu", "-q")
    assert before.code == 0
    codes = {0: 0, 4: 0}
    for trial in range(400):
        place = tmp_path / str(trial)
        place.mkdir()
        run = copy(trained / part, place)
        name = spoiled(run, draw)
        for words in (("model", "info", run), ("translate", run, "-i", lines, "--device", "cpu", "-q")):
            answer = ask(*words)
            assert answer.code in codes, (trial, name, answer)
            codes[answer.code] += 1
            # A recipe is read by people and may be changed by them; everything else is what it was or nothing.
            if answer.code == 0 and words[0] == "translate" and name != Path("recipe.toml"):
                assert answer.out == before.out, (trial, name)
    assert codes[4] > 20, codes
    assert codes[0] > 20 or part, codes  # every byte of a model folder is sealed


@pytest.mark.long
def test_memory_is_bounded_by_what_is_there(trained: Path, tmp_path: Path) -> None:
    """A folder that claims to be huge costs no more than one that does not."""
    model = copy(trained / "model", tmp_path)
    setting("model", "feed_forward", str(2**33))(model)
    seal(model)
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33)); from seqkit.cli.main "
    program = [sys.executable, "-c", limited + "import main; sys.exit(main(sys.argv[1:]))"]
    assert subprocess.run([*program, "model", "info", str(model)], check=False).returncode == 4
