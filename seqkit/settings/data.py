"""What is read: `[data]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seqkit.settings.base import Settings

__all__ = ["Data", "Pairs"]

Files = Annotated[
    tuple[str, ...],
    Meta(
        description="one TSV file, or a source and a target file; `x.{en,de}` stands for both; .gz, .xz, .zst are read"
    ),
]


class Pairs(Settings, frozen=True, kw_only=True, tag_field="kind", tag="pairs"):
    """Parallel text: each line has a source and a target side."""

    train: Files
    dev: Annotated[tuple[str, ...], Meta(description="like train: validated on while training; may be left out")] = ()
    source: Annotated[str, Meta(description="name of the source language, for display")] = "source"
    target: Annotated[str, Meta(description="name of the target language, for display")] = "target"
    maximum_length: Annotated[int, Meta(ge=1, description="drop training pairs with a longer side, in tokens")] = 256
    bad_utf8: Annotated[
        Literal["error", "skip"], Meta(description="a line that is not UTF-8 ends the run, or its pair is dropped")
    ] = "error"
    drop_overlap: Annotated[
        bool, Meta(description="drop training pairs whose source also stands in the development set")
    ] = False


Data = Pairs
