"""Terms that a translation must contain: those of a file, and those that are copied from the source.

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

__all__ = ["Glossary", "Term", "encode_terms", "missing_terms", "protected_terms", "word_boundaries"]

# The forms of one term, any one of which is enough.
Term = tuple[str, ...]

# What is copied, not translated: addresses, mail addresses, placeholders, markup, numbers.
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
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.entries:
            return None
        longest_first = sorted(self.entries, key=len, reverse=True)
        return re.compile("|".join(_word_pattern(term) for term in longest_first), re.IGNORECASE)

    @cached_property
    def _by_casefold(self) -> dict[str, str]:
        return {term.casefold(): term for term in reversed(list(self.entries))}

    def terms_in(self, text: str) -> list[Term]:
        """The forms for each term in the text, in its order, each once; a term within a longer one does not count.

        A term in lower case matches any case, one with capitals only itself.
        """
        terms: dict[Term, None] = {}
        for match in self._pattern.finditer(text) if self._pattern else ():
            term = match[0] if match[0] in self.entries else self._by_casefold.get(match[0].casefold(), "")
            if term and (term == match[0] or term == term.casefold()):
                terms[self.entries[term]] = None
        return list(terms)


def protected_terms(text: str) -> list[Term]:
    """The parts of a text that a translation copies: web and mail addresses, placeholders, tags, numbers."""
    return [(match,) for match in dict.fromkeys(match[0] for match in PROTECTED.finditer(text))]


def missing_terms(text: str, terms: Sequence[Term]) -> list[str]:
    """The first forms of the terms none of whose forms stands in the text as whole words."""
    return [term[0] for term in terms if not any(re.search(_word_pattern(form), text) for form in term)]


def _word_pattern(form: str) -> str:
    """A pattern for a form that neither begins nor ends within a word."""
    before = r"(?<!\w)" if _in_words(form[0]) else ""
    after = r"(?!\w)" if _in_words(form[-1]) else ""
    return before + re.escape(form) + after


def _in_words(character: str) -> bool:
    """Whether a character is part of words, in a script that puts spaces between words."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in "WF"


def _forms(codec: Codec, term: Term) -> list[list[int]]:
    """The ids of each form: as a word within a line, and as one at its beginning.

    Forms that the codec has no tokens for, or would change, are left out.
    """
    encodings: list[list[int]] = []
    for form in term:
        texts = [form, f" {form}"] if isinstance(codec.settings, Characters) else [form]
        for ids in ([*_encode_form(codec, text)] for text in texts):
            if ids and UNKNOWN not in ids and codec.decode(ids).strip() == form and ids not in encodings:
                encodings.append(ids)
    return encodings


def _encode_form(codec: Codec, text: str) -> list[int]:
    if isinstance(codec.settings, Characters) and text.startswith(" "):
        # A line does not begin with a space, but a word within it has one before it.
        spaced = codec.encode(f"a{text}")
        return spaced[1:]
    return codec.encode(text)


def word_boundaries(codec: Codec) -> Tensor:
    """The tokens that cannot continue the word before them: (V,) bool."""
    tokens = codec.tokens(range(len(codec)))
    pieces = isinstance(codec.settings, SentencePiece)
    letters = isinstance(codec.settings, Characters)
    flags = [
        id == EOS or not (pieces or letters) or token.startswith((SPACE_MARK, " ")) or not token[:1].isalnum()
        for id, token in enumerate(tokens)
    ]
    if pieces:  # a byte may be part of any character
        flags = [flag and not token.startswith("<0x") for flag, token in zip(flags, tokens, strict=True)]
    return torch.tensor(flags)


def encode_terms(codec: Codec, terms: Sequence[Term]) -> tuple[list[list[list[int]]], list[str]]:
    """The ids of the forms of each term that the codec can write, and the first forms of those that it cannot."""
    encoded = [_forms(codec, term) for term in terms]
    impossible = [term[0] for term, forms in zip(terms, encoded, strict=True) if not forms]
    return [forms for forms in encoded if forms], impossible
