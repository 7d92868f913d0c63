"""Recipes are data: whatever stands in one is a setting or exit code 2 with its key; none names code or a way out."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqkit.settings.schema import Key, keys
from tests.support.hostile import Ask

EVERY_KEY = {f"{key.path} of {key.kind}" if key.kind else key.path: key for key in keys() if key.default != "required"}
every_key = pytest.mark.parametrize("key", EVERY_KEY.values(), ids=EVERY_KEY)
# TOML that is right for no setting at all, and what is wrong for settings of one type.
WRONG = ("nan", "inf", "-inf", "1e400", "1979-05-27", "07:32:00", "[[[]]]", "{a = {b = 1}}", "[{}]", "-" + "9" * 80)
TINY = (
    "text=words", "train.steps=1", "train.processes=1", "model.width=16", "model.heads=2", "model.feed_forward=16",
    "model.encoder_layers=1", "model.decoder_layers=1",
)  # fmt: skip


def recipe(key: Key, value: str) -> str:
    """A recipe whose only mistake is this value of a key, if that is one."""
    tables: dict[str, dict[str, str]] = {"data": {"train": '["a", "b"]'}}
    section, _, name = key.path.rpartition(".")
    table = tables.setdefault(section, {})
    if key.kind is not None:
        table["kind"] = json.dumps(key.kind)
    if section == "data":
        tables["data"]["kind"] = json.dumps(key.kind)
    table[name] = value
    top = "".join(f"{one} = {written}\n" for one, written in tables.pop("", {}).items())
    rows = (f"[{title}]\n" + "".join(f"{one} = {it}\n" for one, it in rows.items()) for title, rows in tables.items())
    return top + "".join(rows)


@every_key
def test_a_value_that_no_setting_has_is_named_by_its_key(key: Key, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "recipe.toml"
    for value in WRONG:
        path.write_text(recipe(key, value))
        assert key.path in ask.refused(2, "config", "show", path, lines=25), value


@every_key
def test_a_value_of_another_type_is_named_by_its_key(key: Key, tmp_path: Path, ask: Ask) -> None:
    others = {
        "integer": '"many"',
        "number": '"much"',
        "true or false": "1",
        "list": "5",
        "text": "5",
        "one of": '"another"',
    }
    wrong = {value for word, value in others.items() if word in key.type}
    if "text" in key.type or key.path.endswith(".kind"):
        wrong = {"5", "true", "[1]"}
    path = tmp_path / "recipe.toml"
    for value in wrong or {"[1]"}:
        path.write_text(recipe(key, value))
        assert key.path in ask.refused(2, "config", "show", path, lines=25), value


@pytest.mark.parametrize("word", ["os.system", "__import__('os')", "https://example.org/x", "organisation/model", "\0"])
@pytest.mark.parametrize("key", sorted({key.path for key in keys() if key.path.endswith(".kind")}))
def test_a_name_selects_from_a_list(key: str, word: str, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "recipe.toml"
    section, _, name = key.rpartition(".")
    data = '[data]\ntrain = ["a", "b"]\n'
    path.write_text(f"{data if section != 'data' else ''}[{section}]\n{name} = {json.dumps(word)}\n")
    said = ask.refused(2, "config", "show", path, lines=25)
    assert f"unknown {key}" in said
    assert "kinds: " in said


FILES: dict[str, bytes] = {
    "python": b"!!python/object/apply:os.system ['true']",
    "keys twice": b"name = 'a'\nname = 'b'\n",
    "tables twice": b"[data]\ntrain = ['a']\n[model]\n[data]\n",
    "deep lists": b"a = " + b"[" * 100_000 + b"]" * 100_000,
    "deep tables": b"a = " + b"{a = " * 100_000,
    "long key": b"a" + b".a" * 100_000 + b" = 1",
    "many digits": b"[data]\ntrain = ['a']\n[train]\nseed = 1" + b"0" * 5000,
    "NUL": b"name = 'a\0b'\n",
    "bad UTF-8": b"name = '\xff'\n",
    "UTF-16": "name = 'a'\n".encode("utf-16"),
    "escape": b"name = '\x1b[2J'\n",
    "50 MB": b"#" * 50_000_000,
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_that_is_no_recipe_is_one_line(content: bytes, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    for words in (("config", "show", path), ("train", path)):
        assert str(path) in ask.refused(2, *words)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_compressed_recipe_that_is_none_is_one_line(suffix: str, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / f"recipe.toml{suffix}"
    compress: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
    whole = compress.get(suffix, bytes)(b"name = 'a'\n" * 99)
    for content in (b"name = 'a'\n", whole[: len(whole) // 2], whole[:9] + bytes(99)):
        path.write_bytes(content)
        assert str(path) in ask.refused(2, "config", "show", path)
    if suffix == ".gz":
        path.write_bytes(gzip.compress(bytes(1 << 28), compresslevel=1))
        assert "too large" in ask.refused(2, "config", "show", path)


# What the settings of a run may ask for


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.tsv"
    path.write_text("a b\tb a\nc\tc\n" * 5)
    return path


def in_recipe(corpus: Path, **top: str) -> Path:
    """A recipe that could be trained, with other settings at its top."""
    path = corpus.parent / "recipe.toml"
    rows = (f"{name} = {json.dumps(value)}\n" for name, value in top.items())
    path.write_text("".join(rows) + f"[data]\ntrain = [{json.dumps(str(corpus))}]\n")
    return path


@pytest.mark.parametrize("name", ["../out", "{corpus.parent}/out", "a/b", "..", ".", "a\0b"])
def test_the_name_of_a_run_does_not_lead_out(name: str, corpus: Path, ask: Ask) -> None:
    before = sorted(corpus.parent.parent.iterdir())
    path = in_recipe(corpus, name=name.format(corpus=corpus))
    assert "name = " in ask.refused(2, "train", path, "--device", "cpu", *TINY)
    assert sorted(corpus.parent.parent.iterdir()) == before
    assert sorted(corpus.parent.iterdir()) == [path, corpus]


@pytest.mark.parametrize("out", ["a\0b", "x" * 5000, "x/" * 3000, "/dev/null", "train.tsv", "train.tsv/x"])
def test_a_folder_that_cannot_be_is_one_line(out: str, corpus: Path, ask: Ask) -> None:
    ask.refused(2, "train", in_recipe(corpus, out=out), "--device", "cpu", *TINY)
    assert corpus.read_text().startswith("a b\t")


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 5000, "x/" * 3000, "", "/", "hf:name/data", "https://example.org/a.tsv"]
)
def test_a_corpus_that_cannot_be_is_one_line(name: str, corpus: Path, ask: Ask) -> None:
    path = corpus.parent / "recipe.toml"
    for names in ([name], [name, name]):
        path.write_text(f"[data]\ntrain = {json.dumps(names)}\n")
        ask.refused(3, "train", path, "--device", "cpu", *TINY)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "/dev/zero", "nowhere", "train.tsv"])
def test_a_text_layer_that_cannot_be_is_one_line(name: str, corpus: Path, ask: Ask) -> None:
    path = in_recipe(corpus)
    path.write_text(path.read_text() + f"[text]\nkind = 'words'\nfrom = {json.dumps(name)}\n")
    ask.refused(2 if len(name) > 255 else 4, "train", path, "--device", "cpu", *TINY[1:])


def test_a_word_cannot_stand_for_a_billion_files(corpus: Path, ask: Ask) -> None:
    word = "{a,b}" * 30
    assert "more than" in ask.refused(2, "train", "--train", word)
    path = corpus.parent / "recipe.toml"
    path.write_text(f"[data]\ntrain = [{json.dumps(word)}]\n")
    assert "more than" in ask.refused(2, "train", path, "--device", "cpu", *TINY)


@pytest.mark.parametrize(
    "device", ["meta", "mps", "xla", "hpu", "mkldnn", "privateuseone", "cpu:7", "os.system", "", "\x1b"]
)
def test_a_device_is_the_processor_or_a_gpu_that_is_there(device: str, corpus: Path, ask: Ask) -> None:
    assert "unknown device" in ask.refused(2, "train", in_recipe(corpus), "--device", device, *TINY)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("setting", "code"),
    [
        (f"model.width={2**62}", 5),
        (f"model.feed_forward={2**62}", 5),
        (f"model.feed_forward={2**50}", 5),
        (f"model.heads={2**62}", 2),
        (f"train.processes={2**62}", 2),
        ("train.learning_rate=1e300", 6),
        ("train.optimizer={kind = 'muon', rate = 1e300}", 2),
        (f"train.optimizer={{kind = 'muon', iterations = {2**62}}}", 2),
        (f"text={{kind = 'sentencepiece', size = {2**62}}}", 2),
    ],
)
def test_what_nobody_has_is_refused_and_never_tried(setting: str, code: int, corpus: Path, ask: Ask) -> None:
    ask.refused(code, "train", in_recipe(corpus), "--device", "cpu", "-q", *TINY, setting)


def test_numbers_that_are_only_large_change_nothing(corpus: Path, ask: Ask) -> None:
    large: dict[str, Any] = {
        "train.batch_tokens": 2**62,
        "train.keep": 2**62,
        "train.patience": 2**62,
        "train.minutes": 1e300,
        "train.log_seconds": 1e300,
        "train.save_every": 2**62,
        "model.maximum_positions": 2**62,
        "data.maximum_length": 2**62,
        "text.size": 2**62,
        "text.minimum_count": 1,
        "train.seed": 2**63 - 1,
    }
    words = [f"{key}={value}" for key, value in large.items()]
    assert ask("train", in_recipe(corpus), "--device", "cpu", "-q", *TINY, *words).code == 0
