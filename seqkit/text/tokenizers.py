"""Tokenizers, which split a line into characters, words, or learnt subword pieces."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import sentencepiece

from seqkit.errors import ConfigError, DataError, ModelError
from seqkit.text.subword_sampling import SubwordSampler
from seqkit.text.vocabulary import BOS, EOS, PAD, UNKNOWN, UNKNOWN_MARK

__all__ = ["SPACE_MARK", "CharacterTokenizer", "SentencePieceTokenizer", "WordTokenizer"]

JOINER = "\uffed"  # marks the side on which a punctuation token is joined to its neighbour
SPACE_MARK = "\u2581"  # the character with which sentencepiece replaces a space

RUNS = re.compile(r"[^\W_]+|.", re.DOTALL)  # runs of letters and digits, and every other character by itself


class CharacterTokenizer:
    """One token a character, spaces included."""

    def split(self, text: str) -> list[str]:
        """The characters of a line."""
        return list(text)

    def join(self, tokens: Iterable[str]) -> str:
        """The line that consists of these characters."""
        return "".join(tokens)


@dataclass(frozen=True)
class WordTokenizer:
    """Words between white space; punctuation marks and symbols are separate tokens, except with `by="spaces"`.

    A punctuation token marks the sides on which it touches its neighbours: `(see "it")` -> `(￭ see "￭ it ￭" ￭)`. So
    `join` can restore the line, and a word is the same token wherever it occurs.
    """

    by: Literal["punctuation", "spaces"] = "punctuation"

    def split(self, text: str) -> list[str]:
        """The tokens of a line; `join` restores the line, except for its white space."""
        chunks = text.split()
        if self.by == "spaces":
            return chunks
        return [token for chunk in chunks for token in _mark_joins(_parts(chunk))]

    def join(self, tokens: Iterable[str]) -> str:
        """The line that consists of these tokens, with single spaces between those that are not joined."""
        if self.by == "spaces":
            return " ".join(tokens)
        pieces: list[str] = []
        joined = True  # no space before the first
        for token in tokens:
            mark = token.strip(JOINER)
            joined_after = False
            if _is_punctuation(mark):
                joined |= token.startswith(JOINER)
                joined_after = token.endswith(JOINER)
                token = mark
            pieces.append(token if joined else " " + token)
            joined = joined_after
        return "".join(pieces)


def _is_punctuation(text: str) -> bool:
    # The joiner counts as a letter, so that one in a text is not taken for a mark of this tokenizer; so does the mark
    # of an unknown word, which is joined to its neighbours as the word would be.
    return len(text) == 1 and unicodedata.category(text)[0] in "PS" and text not in (JOINER, UNKNOWN_MARK)


def _parts(chunk: str) -> list[str]:
    """Split text without white space into words and single punctuation marks."""
    parts: list[str] = []
    word = ""
    for run in RUNS.findall(chunk):
        if _is_punctuation(run):
            parts += [word, run] if word else [run]
            word = ""
        else:
            word += run  # combining marks and invisible joiners stay with their letters
    return [*parts, word] if word else parts


def _mark_joins(parts: list[str]) -> list[str]:
    """Add joiners to punctuation that touches a neighbour; of two adjacent marks the second has the joiner."""
    tokens: list[str] = []
    for index, part in enumerate(parts):
        if _is_punctuation(part):
            before = JOINER if index > 0 else ""
            after = JOINER if index + 1 < len(parts) and not _is_punctuation(parts[index + 1]) else ""
            part = before + part + after
        tokens.append(part)
    return tokens


@dataclass(frozen=True)
class SentencePieceTokenizer:
    """Subword pieces by the sentencepiece library (Kudo and Richardson, 2018); `model` is the content of its file.

    Raises ModelError when the bytes are not such a model.
    """

    model: bytes = field(repr=False)
    processor: sentencepiece.SentencePieceProcessor = field(init=False, repr=False, compare=False)
    samplers: dict[tuple[str, float], SubwordSampler] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        try:
            processor = sentencepiece.SentencePieceProcessor(model_proto=self.model) if self.model else None
        except RuntimeError:
            processor = None
        if processor is None:
            raise ModelError("the sentencepiece model is damaged")
        object.__setattr__(self, "processor", processor)

    @classmethod
    def learn(
        cls,
        lines: Iterable[str],
        *,
        algorithm: Literal["bpe", "unigram"],
        size: int,
        byte_fallback: bool = True,
        character_coverage: float = 1.0,
    ) -> SentencePieceTokenizer:
        """Learn `size` pieces, special ones included, from normalised lines. The same lines give the same bytes.

        Raises ConfigError when the text yields fewer pieces than `size` or needs more; DataError when it is empty.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                # The trainer skips lines with the character that it uses for unknown ones, U+2585.
                sentence_iterator=(line.replace("\u2585", " ") for line in lines),
                model_writer=model,
                model_type=algorithm,
                vocab_size=size,
                byte_fallback=byte_fallback,
                character_coverage=character_coverage,
                pad_id=PAD,
                bos_id=BOS,
                eos_id=EOS,
                unk_id=UNKNOWN,
                unk_surface=UNKNOWN_MARK,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                add_dummy_prefix=True,
                num_threads=16,  # a constant: the pieces of "unigram" depend on it
                max_sentence_length=1 << 30,  # bytes; by default longer lines than 4192 are dropped silently
                minloglevel=2,
            )
        except RuntimeError as error:
            raise _explain(str(error), size) from None
        return cls(model.getvalue())

    def pieces(self) -> list[str]:
        """The texts of all pieces in the order of their ids, with ▁ for a space."""
        return self.processor.id_to_piece(list(range(self.processor.get_piece_size())))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The best segmentation of each line into pieces, as ids."""
        return cast(list[list[int]], self.processor.encode(list(texts)))

    def sample(
        self, texts: Sequence[str], *, algorithm: Literal["bpe", "unigram"], rate: float, seed: int
    ) -> list[list[int]]:
        """A random segmentation of each line, by the algorithm with which the pieces were learnt (`SubwordSampler`).

        The result depends only on the arguments.
        """
        return self.sampler(algorithm, rate)(self.encode(texts), seed=seed)

    def sampler(self, algorithm: Literal["bpe", "unigram"], rate: float) -> SubwordSampler:
        """The sampler of random segmentations; equal arguments give the same object, as it has a cache."""
        if (algorithm, rate) not in self.samplers:
            self.samplers[algorithm, rate] = SubwordSampler(self.processor, algorithm=algorithm, rate=rate)
        return self.samplers[algorithm, rate]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these pieces; padding and the ids of beginning and end are skipped.

        Raises IndexError for an id without a piece.
        """
        return cast(str, self.processor.decode([id for id in ids if not PAD <= id <= EOS]))


def _explain(message: str, size: int) -> ConfigError | DataError:
    """The error for a RuntimeError of the trainer, whose numbers are available only in its message."""
    if match := re.search(r"too high \(\d+\)\. Please set it to a value <= (\d+)", message):
        return ConfigError(f"text.size: {size} pieces asked, the text supports {match[1]}", f"set text.size={match[1]}")
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return ConfigError(
            f"text.size: {size} pieces asked, single characters alone need {match[1]}",
            f"set text.size={match[1]} or more, or text.character_coverage below 1",
        )
    if "sentences_.empty()" in message:
        return DataError("there is no text to learn pieces from: all lines are empty")
    return DataError(f"sentencepiece cannot learn from this text: {message.strip()}")
