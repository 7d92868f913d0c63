"""Labelled text in the format of the CoNLL shared tasks: one token a line, a blank line between sentences.

    Florence  NNP  B-PER      the first column is the token, the last one its label; other columns are ignored
    left      VBD  O          columns are separated by TABs, or by single spaces in a file without any TAB
    Paris     NNP  B-LOC

Tokens and labels contain no white space, so that a sentence can be written as one line of tokens and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqkit.data.corpora import read_lines
from seqkit.errors import DataError

__all__ = ["LabelledText", "read_labelled"]

DOCUMENT = "-DOCSTART-"  # the line of CoNLL-2003 that begins a document and is part of no sentence
BYTE_ORDER_MARK = "\ufeff"
FORM = "each line is a token, a TAB and its label; a blank line ends a sentence"


@dataclass(frozen=True)
class LabelledText:
    """Tokenized sentences with a label for each token: `labels[i][j]` belongs to `tokens[i][j]`."""

    tokens: list[list[str]]
    labels: list[list[str]]

    def __len__(self) -> int:
        return len(self.tokens)

    def dump(self) -> bytes:
        """The text as the content of a file that `read_labelled` reads.

        Raises DataError for what the format cannot represent: a sentence without tokens, a token that is `-DOCSTART-`,
        a token or label that is empty or contains white space.
        """
        rows: list[str] = []
        for number, (tokens, labels) in enumerate(zip(self.tokens, self.labels, strict=True), start=1):
            if not tokens:
                raise DataError(f"sentence {number} has no tokens", "leave it out: a blank line only ends a sentence")
            for token, label in zip(tokens, labels, strict=True):
                if token == DOCUMENT:
                    raise DataError(f"sentence {number} has the token {DOCUMENT}", "it would be read as no sentence's")
                _check(token, label, f"sentence {number}")
                rows.append(f"{token}\t{label}\n")
            rows.append("\n")
        content = "".join(rows)
        # The reader removes one byte order mark from the beginning of a file, so a token's own one is doubled there.
        return ((BYTE_ORDER_MARK if content.startswith(BYTE_ORDER_MARK) else "") + content).encode()


def read_labelled(files: Sequence[str | Path]) -> LabelledText:
    """The sentences of one or more files, in order; `.gz`, `.xz` and `.zst` are decompressed.

    A `-DOCSTART-` line ends a sentence as a blank line does. Raises DataError, naming the file and the line, for files
    that are missing, empty, damaged, not UTF-8 or without a sentence, for tokens without a label, and for tokens or
    labels that contain white space.
    """
    sentences = [sentence for path in files for sentence in _sentences(path)]
    return LabelledText([tokens for tokens, _ in sentences], [labels for _, labels in sentences])


def _sentences(path: str | Path) -> list[tuple[list[str], list[str]]]:
    sentences: list[tuple[list[str], list[str]]] = []
    ended = True
    for row in _rows(path):
        if row is None:
            ended = True
            continue
        if ended:
            sentences.append(([], []))
            ended = False
        token, label = row
        sentences[-1][0].append(token)
        sentences[-1][1].append(label)
    if not sentences:
        raise DataError(f"{path} holds no sentence", FORM)
    return sentences


def _rows(path: str | Path) -> Iterator[tuple[str, str] | None]:
    """Token and label of each line; None for a line that ends a sentence."""
    lines = read_lines(path)
    separator = "\t" if any("\t" in line.strip() for line in lines) else " "
    for number, line in enumerate(lines, start=1):
        token, *columns = line.split(separator)
        if not line or line.isspace() or token == DOCUMENT:
            yield None
            continue
        label = columns[-1] if columns else ""
        if not label:
            raise DataError(f"{path} line {number}: the token {token!r} has no label", FORM)
        _check(token, label, f"{path} line {number}")
        yield token, label


def _check(token: str, label: str, where: str) -> None:
    for name, text in (("token", token), ("label", label)):
        if text.split() != [text] or "\0" in text:
            what = f"{text!r} holds white space" if text else "is empty"
            raise DataError(f"{where}: the {name} {what}", "put another character there, such as _")
