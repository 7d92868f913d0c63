"""Codecs: round trips of text and of files, special words, unknown tokens, sampling."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from subprocess import run
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.settings import Characters, SentencePiece, Text, Words
from seqkit.text import BOS, EOS, PAD, UNKNOWN, UNKNOWN_MARK, Codec, Codecs, Vocabulary, tokenizers
from seqkit.text.subword_sampling import Segmentation

LINES = (
    "The quick brown fox jumps over the lazy dog.",
    "It's a long way (they say), isn't it?",
    "Größere Wörter, 3.14 and «quotes» \u2013 all of it costs $5/day!",
    "<s> </s> <pad> <unk> <2de> stood in the text; so did a\ttab\u00a0and E=mc².",
    "हिन्दी में लिखा हुआ एक वाक्य।",
    "",
)
KINDS: dict[str, Text] = {
    "bpe": SentencePiece(size=360),
    "bpe without bytes": SentencePiece(size=100, byte_fallback=False, normalise=("nfkc", "lower", "quotes", "spaces")),
    "bpe as written": SentencePiece(size=360, normalise=()),
    "unigram": SentencePiece(algorithm="unigram", size=340),
    "unigram without bytes": SentencePiece(algorithm="unigram", size=90, byte_fallback=False),
    "words": Words(),
    "frequent words": Words(minimum_count=2, normalise=("lower", "nfkc")),
    "spaced words": Words(split="spaces"),
    "characters": Characters(),
    "frequent characters": Characters(size=30, normalise=("nfkc", "lower", "spaces")),
}

SOMEWHAT_KNOWN = st.text(st.sampled_from("The quick<s>/ .,\u2581\uffed\u2047?\u00b4\u0301\u030cJ\u210bग़ \u00a0☃"))
WILD = SOMEWHAT_KNOWN | st.text(st.characters(exclude_categories=()))
KIND = st.sampled_from(list(KINDS))
LINE_BREAKS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.fixture(scope="module")
def codecs() -> dict[str, Codec]:
    """A codec of every kind."""
    return {name: Codec.learn(LINES, settings) for name, settings in KINDS.items()}


@pytest.fixture(params=list(KINDS))
def codec(request: pytest.FixtureRequest, codecs: dict[str, Codec]) -> Codec:
    """Each codec in turn."""
    return codecs[request.param]


@settings(deadline=None, max_examples=200)
@given(KIND, WILD)
@example("bpe without bytes", "\u2581T")
@example("frequent characters", "\u2028☃")
def test_any_text_is_encoded_and_stays_as_it_was_first_decoded(codecs: dict[str, Codec], kind: str, text: str) -> None:
    codec = codecs[kind]
    ids = codec.encode(text)
    once = codec.decode(ids)
    assert all(UNKNOWN <= id < len(codec) for id in ids)
    assert codec.decode(codec.encode(once)) == once


@settings(deadline=None)
@given(WILD.filter(lambda text: not set(text) & set("\0\u2581" + LINE_BREAKS) and text.isprintable()))
def test_with_bytes_and_nothing_normalised_text_is_given_back(codecs: dict[str, Codec], text: str) -> None:
    codec = codecs["bpe as written"]
    assert codec.decode(codec.encode(text)) == text


@settings(deadline=None)
@given(KIND, st.data())
def test_any_ids_are_decoded_to_one_line(codecs: dict[str, Codec], kind: str, data: st.DataObject) -> None:
    codec = codecs[kind]
    ids = data.draw(st.lists(st.integers(0, len(codec) - 1)))
    assert len(codec.decode(ids).splitlines()) <= 1
    assert len(codec.tokens(ids)) == len(ids)
    codec.decode(ids).encode()


@pytest.mark.parametrize("id", [-1, 10**6])
def test_an_id_out_of_range_is_an_error(codec: Codec, id: int) -> None:
    with pytest.raises(IndexError):
        codec.decode([id])


def test_line_breaks_become_spaces(codecs: dict[str, Codec]) -> None:
    for kind in ("bpe as written", "characters"):
        assert codecs[kind].decode(codecs[kind].encode("a" + LINE_BREAKS + "a")) == "a" + " " * len(LINE_BREAKS) + "a"


def test_no_vocabulary_can_bring_line_breaks_into_text() -> None:
    codec = Codec(Characters(), tokenizers.CharacterTokenizer(), Vocabulary.from_counts({"\n": 1}))
    assert codec.decode([4]) == " "


@pytest.mark.parametrize("kind", ["bpe", "unigram", "unigram without bytes", "words", "spaced words", "characters"])
def test_training_text_is_given_back(codecs: dict[str, Codec], kind: str) -> None:
    lines = [line for line in LINES if "\t" not in line]  # Words makes one white space of another
    assert codecs[kind].decode_many(codecs[kind].encode_many(lines)) == lines


@pytest.mark.parametrize("text", ["<s> </s> <pad> <unk> <2de>", "a<s>b</s>", "</s>", "<unk>"])
def test_text_of_special_tokens_is_text(codec: Codec, text: str) -> None:
    ids = codec.encode(text)
    assert not {PAD, BOS, EOS} & set(ids)
    if UNKNOWN not in ids:
        assert codec.decode(ids) == text


def test_special_ids_are_not_shown_in_text(codec: Codec) -> None:
    ids = codec.encode("the lazy dog")
    assert codec.decode([BOS, *ids, EOS, PAD, PAD]) == codec.decode(ids)
    assert codec.tokens([BOS, *ids, EOS])[:: len(ids) + 1] == ["<s>", "</s>"]
    assert codec.decode([]) == ""


def test_an_unknown_token_is_shown_as_one_character(codecs: dict[str, Codec]) -> None:
    for kind in ("unigram without bytes", "words", "characters"):
        codec = codecs[kind]
        ids = codec.encode("It ☃ dog")
        assert UNKNOWN in ids
        assert codec.decode(ids) == f"It {UNKNOWN_MARK} dog"
    assert UNKNOWN not in codecs["bpe"].encode("It ☃ dog")


def test_many_are_encoded_as_one_by_one(codec: Codec) -> None:
    many = codec.encode_many(LINES)
    assert many == [codec.encode(line) for line in LINES]
    assert many[-1] == []
    assert codec.decode_many(many) == [codec.decode(ids) for ids in many]


def test_counts_are_those_of_the_training_text(codec: Codec) -> None:
    ids = [id for line in codec.encode_many(LINES) for id in line]
    assert [codec.vocabulary.count(id) for id in range(len(codec))] == [ids.count(id) for id in range(len(codec))]


def test_learning_is_repeatable_and_takes_any_iterable(codec: Codec) -> None:
    again = Codec.learn(iter(LINES), codec.settings)
    assert again.dump() == codec.dump()
    assert again.fingerprint == codec.fingerprint


def test_fingerprints_tell_codecs_apart(codec: Codec, codecs: dict[str, Codec]) -> None:
    assert len({codec.fingerprint for codec in codecs.values()}) == len(codecs)
    assert Codec.learn((*LINES, LINES[0]), codec.settings).fingerprint != codec.fingerprint


@pytest.mark.parametrize("text", [SentencePiece(size=300), Words(), Characters()])
def test_no_training_text_is_an_error(text: Text) -> None:
    with pytest.raises(DataError, match="empty"):
        Codec.learn(["", ""], text)


def test_a_minimum_that_nothing_reaches_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no token occurs 9 times"):
        Codec.learn(["a b c"], Words(minimum_count=9))


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_sampling_depends_on_the_seed_and_nothing_else(algorithm: Literal["bpe", "unigram"]) -> None:
    codec = Codec.learn(LINES, SentencePiece(algorithm=algorithm, size=340, sampling=0.2))
    texts = [LINES[number % 2] for number in range(1100)]  # more than a block
    first = codec.encode_many(texts, sampling_seed=7)
    other = codec.encode_many(texts, sampling_seed=8)
    assert codec.encode_many(texts, sampling_seed=7) == first  # whatever was drawn in between
    assert codec.encode_many(texts[:1005], sampling_seed=7) == first[:1005]
    assert first != other
    assert first[:100] != first[1000:]  # the same texts, but in another block
    assert codec.decode_many(first) == texts
    plain = codec.encode_many(texts)
    assert plain == [codec.encode(text) for text in texts] != first


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_cutting_anew_is_encoding_anew(algorithm: Literal["bpe", "unigram"]) -> None:
    codec = Codec.learn(LINES, SentencePiece(algorithm=algorithm, size=340, sampling=0.2))
    texts = ["", *LINES * 40, " ", "", *LINES * 20, "unseen ⇄ wörds", ""]
    best = codec.encode_many(texts)
    offsets = np.cumsum([0, *map(len, best)])
    resampled = codec.resampler(Segmentation(np.array(list(chain.from_iterable(best)), dtype=np.int32), offsets))
    assert resampled is not None
    for seed in (7, 8, 7):
        ids, ends = resampled(seed)
        lines = [ids[begin:end].tolist() for begin, end in pairwise(ends)]
        assert lines == codec.encode_many(texts, sampling_seed=seed) != best


def test_nothing_is_cut_anew_unless_it_is_asked_for(codec: Codec) -> None:
    assert codec.resampler(Segmentation(np.zeros(0, dtype=np.int32), np.zeros(1, dtype=np.int64))) is None


ELSEWHERE = """
import sys
from seqkit.settings import SentencePiece
from seqkit.text import Codec
codec = Codec.learn(["the quick brown fox", "jumps over the lazy dog"] * 9, SentencePiece(
    algorithm=sys.argv[1], size=32, byte_fallback=False, sampling=0.3))
print(codec.encode_many(["the quick brown fox jumps"] * 9, sampling_seed=7))
"""


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_another_process_draws_the_same(algorithm: Literal["bpe", "unigram"]) -> None:
    """A run that goes on does so in a new process, and the processes of one run must cut a line alike."""
    said = {run([sys.executable, "-c", ELSEWHERE, algorithm], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(said) == 1


def test_without_sampling_a_seed_means_nothing(codec: Codec) -> None:
    assert codec.encode_many(LINES, sampling_seed=1) == codec.encode_many(LINES)


def test_a_saved_codec_is_the_same(codec: Codec, tmp_path: Path) -> None:
    codec.save(tmp_path / "codec")
    loaded = Codec.load(tmp_path / "codec")
    assert loaded.settings == codec.settings
    assert loaded.vocabulary == codec.vocabulary
    assert loaded.fingerprint == codec.fingerprint
    assert loaded.encode_many(LINES) == codec.encode_many(LINES)


def test_what_was_learnt_does_not_remember_other_folders() -> None:
    settings = Words(from_="elsewhere")
    assert Codec.learn(LINES, settings).settings == Words()


def test_one_vocabulary_for_both_sides_or_two() -> None:
    joint = Codecs.learn(["a b"], ["c"], Words())
    assert joint.joint
    assert joint.source is joint.target
    assert joint.source.decode(joint.target.encode("a b c")) == "a b c"
    separate = Codecs.learn(["a b"], ["c"], Words(joint=False))
    assert not separate.joint
    assert (len(separate.source), len(separate.target)) == (6, 5)


@pytest.fixture(params=[True, False], ids=["joint", "separate"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A saved pair of codecs."""
    settings = SentencePiece(size=400, joint=request.param)
    Codecs.learn(LINES, [line.upper() for line in LINES], settings).save(tmp_path / "codec")
    return tmp_path / "codec"


def test_saved_codecs_are_the_same(folder: Path) -> None:
    loaded = Codecs.load(folder)
    again = folder.with_name("again")
    loaded.save(again)
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert names == {path.relative_to(again) for path in again.rglob("*") if path.is_file()}
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert Codecs.load(again).joint == loaded.joint


def test_any_damaged_or_missing_file_is_named(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for damaged in (content[:-1], b"\0" + content[1:], b"", None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(ModelError, match=path.name) as caught:
                Codecs.load(folder)
            if path.name != "manifest.json":  # found before it was parsed
                assert re.search("its content is not what|does not exist", caught.value.what)
        path.write_bytes(content)
    Codecs.load(folder)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_newer_format_is_refused_by_its_version(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest.update(format=2, seqkit="9.8", files="something else"))
    with pytest.raises(ModelError, match=r"written by seqkit 9\.8"):
        Codecs.load(folder)


@pytest.mark.parametrize("name", ["../outside", "joint/../../outside", "/etc/passwd", "joint\\x.y", "joint/\0.a", ""])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    outside = folder.with_name("outside")
    outside.write_text("secret")
    change_manifest(folder, lambda manifest: manifest["files"].update({name: {"size": 6, "sha256": "0"}}))
    with pytest.raises(ModelError, match="names a file that is none of a codec's"):
        Codecs.load(folder)


def test_a_manifest_with_sides_missing_is_refused(folder: Path) -> None:
    change_manifest(folder, lambda manifest: manifest["files"].clear())
    with pytest.raises(ModelError, match="must list"):
        Codecs.load(folder)


def test_files_of_different_codecs_are_refused(tmp_path: Path) -> None:
    Codec.learn(LINES, SentencePiece(size=340)).save(tmp_path)
    other = Codec.learn(LINES, SentencePiece(size=341))
    other.vocabulary.save(tmp_path / "vocabulary.tsv")
    with pytest.raises(ModelError, match="do not belong together"):
        Codec.load(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"kind": "bytes"}', '{"kind": "words", "colour": 1}', "[]"])
def test_unreadable_settings_are_refused(tmp_path: Path, content: str) -> None:
    Codec.learn(LINES, Words()).save(tmp_path)
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ModelError, match=r"settings\.json is damaged"):
        Codec.load(tmp_path)


def test_no_codec_where_there_is_none(tmp_path: Path) -> None:
    for load in (Codec.load, Codecs.load):
        with pytest.raises(ModelError, match="nowhere"):
            load(tmp_path / "nowhere")


def test_saved_settings_are_readable(codec: Codec) -> None:
    assert msgspec.json.decode(codec.dump()["settings.json"])["kind"] in ("sentencepiece", "words", "characters")


def test_the_text_layer_needs_no_torch() -> None:
    code = "import sys, seqkit.text; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
