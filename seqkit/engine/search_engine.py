"""The protocol of search over many sources, which the package's own search meets and another program can meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from seqkit.search.hypothesis import Hypothesis
from seqkit.search.rules import Rule
from seqkit.search.terms import Forms
from seqkit.settings import Search

__all__ = ["Constraints", "SearchEngine"]


@dataclass(frozen=True)
class Constraints:
    """What translations must satisfy besides being likely; each list has an entry for every source."""

    prefixes: Sequence[Sequence[int]] | None = None  # the first tokens of each
    terms: Sequence[Forms] | None = None  # the terms that each must contain
    word_boundaries: Tensor | None = None  # (V,) see search.terms.Terms
    rules: Sequence[Rule] = field(default=())  # for all sources


class SearchEngine(Protocol):
    """Many sources and search settings -> the n-best hypotheses of each source."""

    def search(
        self,
        sources: Sequence[Sequence[int]],
        settings: Search,
        constraints: Constraints | None = None,
        *,
        batch_done: Callable[[], object] | None = None,
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each source (ids without `</s>`), best first, in the order of the sources.

        An empty source has an empty list. `batch_done` is called from time to time, from the caller's thread, and may
        raise to leave the rest. Raises ConfigError for settings or constraints that the engine cannot meet.
        """
        ...
