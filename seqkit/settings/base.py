"""The base of every settings Struct: frozen, keyword-only, and strict about unknown keys."""

from __future__ import annotations

import msgspec

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of a recipe. Each field's `Meta(description=...)` is what `seqkit config keys` prints."""
