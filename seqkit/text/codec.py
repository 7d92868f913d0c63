"""Codecs, text <-> ids: a normaliser, a tokenizer and a vocabulary, and the folder in which they are stored.

Codec    one language (or one vocabulary for both): encode, decode
Codecs   the source and the target codec of a model; the same object when the vocabulary is joint

folder/manifest.json                             written last: format, version, size and SHA-256 of every file
folder/joint/  or  folder/source/ and target/    settings.json, vocabulary.tsv, sentencepiece.model (for subwords)
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import assert_never

import msgspec

from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.files import read_plain, replace_file
from seqkit.settings import Characters, SentencePiece, Text, Words
from seqkit.text import tokenizers
from seqkit.text.normalise import clean, normaliser
from seqkit.text.subword_sampling import Segmentation
from seqkit.text.vocabulary import EOS, PAD, SPECIAL_TOKENS, UNKNOWN, UNKNOWN_MARK, Vocabulary

__all__ = ["Codec", "Codecs"]

FORMAT = 1  # of the folder; a higher one is refused
SETTINGS, VOCABULARY, MODEL, MANIFEST = "settings.json", "vocabulary.tsv", "sentencepiece.model", "manifest.json"
FILE_NAME = re.compile(r"(joint|source|target)/[a-z]+\.[a-z]+")  # the names that a manifest may contain
LARGEST_MANIFEST = 1 << 20  # bytes; it lists at most nine files
LARGEST_FILE = 1 << 30  # bytes
COUNTING_BLOCK = 10_000  # lines whose pieces are counted at a time

# The errors of the JSON decoder for arbitrary bytes: bad UTF-8 and deep nesting raise other ones than DecodeError.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Tokenizer = tokenizers.CharacterTokenizer | tokenizers.WordTokenizer | tokenizers.SentencePieceTokenizer


@dataclass(frozen=True, eq=False)
class Codec:
    """Encodes lines as ids and decodes ids to lines.

    `decode(encode(text))` is the text as the model sees it, and is idempotent. Where no token is unknown it is the
    normalised text, except that white space with `Words`, and U+2581 with `SentencePiece`, become single spaces. An
    unknown token is decoded to U+2047. Neither texts nor decoded lines contain line breaks.
    """

    settings: Text
    tokenizer: Tokenizer
    vocabulary: Vocabulary

    @classmethod
    def learn(cls, lines: Iterable[str], settings: Text) -> Codec:
        """Learn a codec from training text. The same lines and settings give the same codec.

        Raises ConfigError when the text yields too few tokens for `settings.size`, DataError when there is no text.
        """
        settings = msgspec.structs.replace(settings, from_=None)  # this codec is not taken from another run
        prepare = _preparation(settings)
        prepared = (prepare(line) for line in lines)
        match settings:
            case SentencePiece():
                return cls(settings, *_learn_pieces(list(prepared), settings))
            case Words() | Characters():
                tokenizer = _splitter(settings)
                counts = Counter(token for line in prepared for token in tokenizer.split(line))
                vocabulary = Vocabulary.from_counts(counts, size=settings.size, minimum_count=settings.minimum_count)
            case _:
                assert_never(settings)
        if not counts:
            raise DataError("there is no text to learn a vocabulary from: all lines are empty")
        if len(vocabulary) == len(SPECIAL_TOKENS):
            raise ConfigError(f"no token occurs {settings.minimum_count} times", "lower text.minimum_count")
        return cls(settings, tokenizer, vocabulary)

    def __len__(self) -> int:
        """The size of the vocabulary, special tokens included."""
        return len(self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the codec's files, in hexadecimal: equal for equal codecs."""
        names = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(self.dump().items())}
        return hashlib.sha256(msgspec.json.encode(names)).hexdigest()

    @cached_property
    def plain_fingerprint(self) -> str:
        """`fingerprint` without the rate of subword sampling: equal for codecs that encode a text as the same ids."""
        if not isinstance(self.settings, SentencePiece) or self.settings.sampling == 0:
            return self.fingerprint
        return replace(self, settings=msgspec.structs.replace(self.settings, sampling=0.0)).fingerprint

    @cached_property
    def _prepare(self) -> Callable[[str], str]:
        return _preparation(self.settings)

    def encode(self, text: str) -> list[int]:
        """The ids of one line, without the special tokens of beginning and end."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str], *, sampling_seed: int | None = None) -> list[list[int]]:
        """The ids of many lines, faster than by `encode`.

        With a seed and `settings.sampling` above 0 the segmentation of each line is random; the ids depend on the
        texts, their order and the seed, not on earlier calls. Otherwise the seed is ignored.
        """
        prepared = [self._prepare(text) for text in texts]
        if not isinstance(self.tokenizer, tokenizers.SentencePieceTokenizer):
            return [[self.vocabulary.id(token) for token in self.tokenizer.split(text)] for text in prepared]
        rate = self.settings.sampling if isinstance(self.settings, SentencePiece) else 0.0
        if sampling_seed is None or rate == 0:
            return self.tokenizer.encode(prepared)
        algorithm = self.settings.algorithm if isinstance(self.settings, SentencePiece) else "bpe"
        return self.tokenizer.sample(prepared, algorithm=algorithm, rate=rate, seed=sampling_seed)

    def resampler(self, best: Segmentation) -> Callable[[int], Segmentation] | None:
        """A function from a seed to the segmentation that `encode_many` gives, for the lines of this best segmentation.

        It is faster than encoding the lines again. None if the settings do not sample.
        """
        settings = self.settings
        if not isinstance(settings, SentencePiece) or settings.sampling == 0:
            return None
        assert isinstance(self.tokenizer, tokenizers.SentencePieceTokenizer)
        sampler = self.tokenizer.sampler(settings.algorithm, settings.sampling)
        lines = sampler.split(best)
        return lambda seed: sampler.draw(lines, seed=seed)

    def decode(self, ids: Iterable[int]) -> str:
        """The line of these ids; padding and the ids of beginning and end are skipped.

        Raises IndexError for an id that is not in the vocabulary.
        """
        if isinstance(self.tokenizer, tokenizers.SentencePieceTokenizer):
            return clean(self.tokenizer.decode(ids))  # pieces for bytes may form a line break
        tokens = (UNKNOWN_MARK if id == UNKNOWN else self.vocabulary.token(id) for id in ids if not PAD <= id <= EOS)
        return clean(self.tokenizer.join(tokens))  # a vocabulary written by hand may contain line breaks

    def decode_many(self, sequences: Iterable[Sequence[int]]) -> list[str]:
        """The lines of several sequences of ids."""
        return [self.decode(ids) for ids in sequences]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id, special ones included, for display."""
        return [self.vocabulary.token(id) for id in ids]

    def dump(self) -> dict[str, bytes]:
        """The content of the files that `save` writes, by name."""
        files = {SETTINGS: msgspec.json.format(msgspec.json.encode(self.settings)), VOCABULARY: self.vocabulary.dump()}
        if isinstance(self.tokenizer, tokenizers.SentencePieceTokenizer):
            files[MODEL] = self.tokenizer.model
        return files

    @classmethod
    def parse(cls, files: Mapping[str, bytes], folder: Path) -> Codec:
        """Make a codec of the output of `dump`. Raises ModelError, naming the folder, for anything else."""
        try:
            settings = msgspec.json.decode(files[SETTINGS], type=Text)
            vocabulary = Vocabulary.parse(files[VOCABULARY], VOCABULARY)
            if not isinstance(settings, SentencePiece):
                return cls(settings, _splitter(settings), vocabulary)
            tokenizer = tokenizers.SentencePieceTokenizer(files[MODEL])
        except KeyError as error:
            raise ModelError(f"{folder / error.args[0]} is missing") from None
        except NOT_JSON as error:
            raise ModelError(f"{folder / SETTINGS} is damaged: {error}") from None
        except ModelError as error:
            raise ModelError(f"{folder}: {error.what}", error.hint) from None
        if tuple(tokenizer.pieces()) != vocabulary.tokens:
            raise ModelError(f"{folder}: {VOCABULARY} and {MODEL} do not belong together")
        return cls(settings, tokenizer, vocabulary)

    def save(self, folder: Path) -> None:
        """Write the codec's files into a folder, which is created if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.dump().items():
            replace_file(folder / name, content)

    @classmethod
    def load(cls, folder: Path) -> Codec:
        """Read a folder that `save` wrote. Raises ModelError when it is missing or damaged."""
        names = [name for name in (SETTINGS, VOCABULARY, MODEL) if (folder / name).exists()]
        return cls.parse({name: _read(folder / name, LARGEST_FILE) for name in names}, folder)


def _preparation(settings: Text) -> Callable[[str], str]:
    """The function that prepares a line for the tokenizer."""
    normalise = normaliser(settings.normalise)
    if isinstance(settings, SentencePiece):
        return lambda text: normalise(clean(text).replace(tokenizers.SPACE_MARK, " "))
    return lambda text: normalise(clean(text))


def _splitter(settings: Words | Characters) -> tokenizers.WordTokenizer | tokenizers.CharacterTokenizer:
    return tokenizers.WordTokenizer(settings.split) if isinstance(settings, Words) else tokenizers.CharacterTokenizer()


def _learn_pieces(
    lines: Sequence[str], settings: SentencePiece
) -> tuple[tokenizers.SentencePieceTokenizer, Vocabulary]:
    """Learn pieces, then count them in the same lines: the library provides only their ranks."""
    tokenizer = tokenizers.SentencePieceTokenizer.learn(
        lines,
        algorithm=settings.algorithm,
        size=settings.size,
        byte_fallback=settings.byte_fallback,
        character_coverage=settings.character_coverage,
    )
    counts: Counter[int] = Counter()
    for start in range(0, len(lines), COUNTING_BLOCK):
        counts.update(chain.from_iterable(tokenizer.encode(lines[start : start + COUNTING_BLOCK])))
    pieces = tokenizer.pieces()
    return tokenizer, Vocabulary(pieces, [counts[id] for id in range(len(pieces))])


@dataclass(frozen=True, eq=False)
class Codecs:
    """The codecs of source and target; the same object twice when they share a vocabulary."""

    source: Codec
    target: Codec

    @property
    def joint(self) -> bool:
        """Whether source and target share one codec."""
        return self.source is self.target

    @classmethod
    def learn(cls, source_lines: Iterable[str], target_lines: Iterable[str], settings: Text) -> Codecs:
        """Learn the codecs from both sides of the training text: one if `settings.joint`, else two.

        Raises what `Codec.learn` raises.
        """
        if settings.joint:
            codec = Codec.learn(chain(source_lines, target_lines), settings)
            return cls(codec, codec)
        return cls(Codec.learn(source_lines, settings), Codec.learn(target_lines, settings))

    def save(self, folder: Path) -> None:
        """Write both codecs and, last, the manifest that makes the folder valid."""
        files: dict[str, FileEntry] = {}
        for side, codec in {"joint": self.source}.items() if self.joint else vars(self).items():
            codec.save(folder / side)
            for name, content in codec.dump().items():
                files[f"{side}/{name}"] = FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        manifest = CodecManifest(format=FORMAT, seqkit=importlib.metadata.version("seqkit"), files=files)
        replace_file(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))

    @classmethod
    def load(cls, folder: Path) -> Codecs:
        """Read a folder that `save` wrote; the hash of a file is verified before the file is parsed.

        Raises ModelError when the folder is missing, damaged, or written by a newer seqkit.
        """
        sides: dict[str, dict[str, bytes]] = {}
        for path, content in _verified(folder).items():
            side, _, name = path.partition("/")
            sides.setdefault(side, {})[name] = content
        codecs = {side: Codec.parse(files, folder / side) for side, files in sides.items()}
        match codecs:
            case {"joint": joint, **others} if not others:
                return cls(joint, joint)
            case {"source": source, "target": target, **others} if not others:
                return cls(source, target)
            case _:
                raise ModelError(f"{folder / MANIFEST} must list a joint codec, or a source and a target codec")


class ManifestHeader(msgspec.Struct, frozen=True):
    """The fields of a manifest in any format."""

    format: int
    seqkit: str  # the version that wrote it


class FileEntry(msgspec.Struct, frozen=True):
    """The entry of a file in the manifest."""

    size: int  # bytes
    sha256: str


class CodecManifest(ManifestHeader, frozen=True):
    """The content of manifest.json; the names of files are relative to its folder."""

    files: dict[str, FileEntry]


def _verified(folder: Path) -> dict[str, bytes]:
    """The contents of all files that the manifest lists, after their sizes and hashes are verified."""
    path = folder / MANIFEST
    content = _read(path, LARGEST_MANIFEST)
    try:
        header = msgspec.json.decode(content, type=ManifestHeader)
        if header.format > FORMAT:
            writer = " ".join(header.seqkit.split())[:40]
            what = f"{folder} was written by seqkit {writer}, in a format newer than this one knows"
            raise ModelError(what, f"install seqkit {writer} or later")
        manifest = msgspec.json.decode(content, type=CodecManifest)
    except NOT_JSON as error:
        raise ModelError(f"{path} is damaged: {error}") from None
    return {name: _read_verified(folder, name, entry) for name, entry in manifest.files.items()}


def _read_verified(folder: Path, name: str, entry: FileEntry) -> bytes:
    if not FILE_NAME.fullmatch(name):
        raise ModelError(f"{folder / MANIFEST} names a file that is none of a codec's: {name!r}")
    path = folder / name
    content = _read(path, LARGEST_FILE)
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ModelError(f"{path} is damaged: its content is not what {MANIFEST} says", "copy or make the folder again")
    return content


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_plain(path, limit=limit)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
