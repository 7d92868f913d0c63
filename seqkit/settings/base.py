"""The base of every settings Struct, and the marks that say what may become of a setting when a run goes on."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Meta

__all__ = ["HARMLESS", "LIMIT", "ResumeRule", "Settings"]

# What may become of a setting when a run goes on:
#   binding    what a step does, or which step is the best: another value is another run; every setting without a mark
#   limit      how long the run goes on: may change, but where the learning rate falls towards the limit only when asked
#   harmless   how the run is watched, saved, shared out and searched afterwards: may change at any time
# Files to train on are harmless by name, as their content is checked by a fingerprint.
ResumeRule = Literal["binding", "limit", "harmless"]

LIMIT = Meta(extra={"resume": "limit"})
HARMLESS = Meta(extra={"resume": "harmless"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of a recipe. Each field's `Meta(description=...)` is what `seqkit config keys` prints."""
