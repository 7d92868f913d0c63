"""Words that a translation must contain: terms from a file, and what is to come out as it went in.

dishwasher<TAB>Spülmaschine<TAB>Geschirrspüler     any one of the forms, where the source has the term
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from seqkit.data.corpora import read_lines
from seqkit.errors import DataError
from seqkit.search.hypothesis import EOS
from seqkit.settings import Characters, SentencePiece
from seqkit.text.codec import Codec
from seqkit.text.tokenizers import SPACE_MARK
from seqkit.text.vocabulary import UNKNOWN

__all__ = ["Glossary", "Term", "bounds", "missing", "protected", "spelt"]

# The forms of one term, any one of which is enough.
Term = tuple[str, ...]

# What is no language: addresses, mail addresses, placeholders, markup, numbers.
PROTECTED = re.compile(
    r"""(?x)
      \b(?:https?|ftp)://[^\s<>"']*[^\s<>"'.,;:!?)\]]
    | \bwww\.[^\s<>"']*[^\s<>"'.,;:!?)\]]
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | \{\{?[^{}\s]*\}?\} | \$\{[^{}\s]*\} | %(?:\(\w+\))?[-+\#0]*\d*(?:\.\d+)?[sdifgeuxc]\b | </?\w[^<>]*>
    | (?<![\w.,])\d+(?:[.,:/-]\d+)*(?!\w)
    """
)


@dataclass(frozen=True)
class Glossary:
    """Source terms and the forms that their translations may have."""

    entries: Mapping[str, Term]

    @classmethod
    def load(cls, path: str | Path) -> Glossary:
        """Read a file with a term a line: the source term and, each after a tab, the forms that it may have.

        Blank lines are passed over. Raises DataError for what cannot be read and, naming it, for a line without a form.
        """
        entries: dict[str, Term] = {}
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            term, *forms = (part.strip() for part in line.split("\t"))
            forms = [form for form in forms if form]
            if not term or not forms:
                raise DataError(f"{path} line {number} has no form", "write: source term, tab, target form")
            entries[term] = (*entries.get(term, ()), *forms)
        return cls(entries)

    @cached_property
    def _search(self) -> re.Pattern[str] | None:
        longest_first = sorted(self.entries, key=len, reverse=True)
        return re.compile("|".join(_whole(term) for term in longest_first), re.IGNORECASE) if longest_first else None

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {term.casefold(): term for term in reversed(list(self.entries))}

    def found_in(self, text: str) -> list[Term]:
        """The forms for each term that the text has, in its order, each once; longer terms hide those within them.

        A term that is written in lower case is found in any case, one with capitals only as it is written.
        """
        found: dict[Term, None] = {}
        for match in self._search.finditer(text) if self._search else ():
            term = match[0] if match[0] in self.entries else self._folded.get(match[0].casefold(), "")
            if term and (term == match[0] or term == term.casefold()):
                found[self.entries[term]] = None
        return list(found)


def protected(text: str) -> list[Term]:
    """What stands in a text that no translation may change: web and mail addresses, placeholders, tags, numbers."""
    return [(match,) for match in dict.fromkeys(match[0] for match in PROTECTED.finditer(text))]


def missing(text: str, terms: Sequence[Term]) -> list[str]:
    """The terms none of whose forms stands in the text as whole words, by their first form."""
    return [term[0] for term in terms if not any(re.search(_whole(form), text) for form in term)]


def _whole(form: str) -> str:
    """A pattern for a form that does not begin or end within a word."""
    before = r"(?<!\w)" if _joins(form[0]) else ""
    after = r"(?!\w)" if _joins(form[-1]) else ""
    return before + re.escape(form) + after


def _joins(character: str) -> bool:
    """Whether words are made of such characters, in a script that puts spaces between words."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in "WF"


def _forms(codec: Codec, term: Term) -> list[list[int]]:
    """Each form as the model would write it: as a word of its own, and the same at the beginning of a line.

    Forms that the text layer has no tokens for, or would change, are left out.
    """
    found: list[list[int]] = []
    for form in term:
        texts = [form, f" {form}"] if isinstance(codec.settings, Characters) else [form]
        for ids in ([*_plain(codec, text)] for text in texts):
            if ids and UNKNOWN not in ids and codec.decode(ids).strip() == form and ids not in found:
                found.append(ids)
    return found


def _plain(codec: Codec, text: str) -> list[int]:
    if isinstance(codec.settings, Characters) and text.startswith(" "):
        # A line does not begin with a space, but a word within it has one before it.
        spaced = codec.encode(f"a{text}")
        return spaced[1:]
    return codec.encode(text)


def bounds(codec: Codec) -> Tensor:
    """Which tokens cannot go on with the word before them: (V,) bool."""
    tokens = codec.tokens(range(len(codec)))
    pieces = isinstance(codec.settings, SentencePiece)
    letters = isinstance(codec.settings, Characters)
    flags = [
        id == EOS or not (pieces or letters) or token.startswith((SPACE_MARK, " ")) or not token[:1].isalnum()
        for id, token in enumerate(tokens)
    ]
    if pieces:  # bytes may spell anything
        flags = [flag and not token.startswith("<0x") for flag, token in zip(flags, tokens, strict=True)]
    return torch.tensor(flags)


def spelt(codec: Codec, terms: Sequence[Term]) -> tuple[list[list[list[int]]], list[str]]:
    """The terms that the codec can write, as tokens, and those that it cannot, by their first form."""
    tokens = [_forms(codec, term) for term in terms]
    missing = [term[0] for term, forms in zip(terms, tokens, strict=True) if not forms]
    return [forms for forms in tokens if forms], missing
