"""Vocabularies, tokens <-> ids; the ids of the four special tokens are the same in every vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqkit.errors import ModelError
from seqkit.files import replace_file

__all__ = ["BOS", "EOS", "PAD", "SPECIAL_TOKENS", "UNKNOWN", "UNKNOWN_MARK", "Vocabulary"]

PAD, BOS, EOS, UNKNOWN = range(4)
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")

# The text of a decoded unknown token. It is a single character, so that decoding, encoding and decoding again changes
# nothing; "<unk>" would be encoded as five characters or three words, some of them perhaps unknown.
UNKNOWN_MARK = "\u2047"

# A token is one field of a line: characters that could end either, and those that UTF-8 lacks, are written as \uXXXX.
UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class Vocabulary:
    """An immutable list of tokens with their frequencies; the index in the list is the id.

    Special tokens have ids but are not looked up by their text: "<s>" in a corpus is an ordinary or unknown token and
    never gets the id of the special one.
    """

    def __init__(self, tokens: Sequence[str], counts: Sequence[int]) -> None:
        """`tokens`: in the order of their ids, special ones first; `counts`: one for each token.

        Raises ValueError when the special tokens are not the first, a token occurs twice, or the lengths differ.
        """
        self.tokens = tuple(tokens)
        self.counts = tuple(counts)
        first = len(SPECIAL_TOKENS)
        self._ids = {token: first + index for index, token in enumerate(self.tokens[first:])}
        if self.tokens[:first] != SPECIAL_TOKENS:
            raise ValueError(f"a vocabulary begins with {' '.join(SPECIAL_TOKENS)}")
        if len(self._ids) != len(self.tokens) - first:
            raise ValueError("a token stands twice in the vocabulary")
        if len(self.counts) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.counts)} counts")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], *, size: int | None = None, minimum_count: int = 1) -> Vocabulary:
        """A vocabulary of the most frequent tokens, ties in the order of their code points.

        It has at most `size` tokens, special ones included, and none that is rarer than `minimum_count`; the count of
        the unknown token is the sum over all other tokens.
        """
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        frequent = [(token, count) for token, count in ranked if count >= minimum_count]
        kept = dict(frequent if size is None else frequent[: max(size - len(SPECIAL_TOKENS), 0)])
        unknown = sum(counts.values()) - sum(kept.values())
        return cls((*SPECIAL_TOKENS, *kept), (0, 0, 0, unknown, *kept.values()))

    def __len__(self) -> int:
        return len(self.tokens)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.tokens, self.counts) == (other.tokens, other.counts)

    def __hash__(self) -> int:
        return hash(self.tokens)

    def id(self, token: str) -> int:
        """The id of an ordinary token; `UNKNOWN` for any other text, including that of special tokens."""
        return self._ids.get(token, UNKNOWN)

    def token(self, id: int) -> str:
        """The token with this id. Raises IndexError for an id out of range."""
        if id < 0:  # Python would count from the end
            raise IndexError(f"no token has the id {id}")
        return self.tokens[id]

    def count(self, id: int) -> int:
        """The occurrences of a token in the text that the vocabulary was learnt from; 0 for `<pad>`, `<s>`, `</s>`."""
        if id < 0:
            raise IndexError(f"no token has the id {id}")
        return self.counts[id]

    def dump(self) -> bytes:
        """The vocabulary as UTF-8 TSV: line n (from 0) is the token with id n and its count."""
        rows = zip(self.tokens, self.counts, strict=True)
        return "".join(f"{_escape(token)}\t{count}\n" for token, count in rows).encode()

    @classmethod
    def parse(cls, content: bytes, name: str) -> Vocabulary:
        """Parse the output of `dump`. Raises ModelError, with `name` and the line, for anything else."""
        tokens: list[str] = []
        counts: list[int] = []
        try:
            for line in content.decode().removesuffix("\n").split("\n"):
                token, count = line.split("\t")
                counts.append(int(count))
                tokens.append(_unescape(token))
        except ValueError:
            raise ModelError(f"{name}, line {len(tokens) + 1}: expected a token, a tab and a count") from None
        try:
            return cls(tokens, counts)
        except ValueError as error:
            raise ModelError(f"{name} is damaged: {error}") from None

    def save(self, path: Path) -> None:
        """Write the vocabulary as a TSV file."""
        replace_file(path, self.dump())

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file that `save` wrote. Raises ModelError when it is missing or damaged."""
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise ModelError(f"cannot read {path}: {error.strerror}") from None


def _escape(token: str) -> str:
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", token)


def _unescape(field: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), field)
