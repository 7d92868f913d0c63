"""Lines for the small trained translator, and its search settings with changes."""

from __future__ import annotations

import msgspec

from seqkit.demo import reverse
from seqkit.inference.translator import Translator
from seqkit.settings import Search

LINES = [source for source, _ in reverse(24, seed=7)]


def searching(translator: Translator, **changes: object) -> Search:
    """The translator's own search settings, some of them changed."""
    return msgspec.structs.replace(translator.recipe.search, **changes)
