"""What is read: `[data]`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from seqkit.settings.base import HARMLESS, Settings

__all__ = ["Data", "Labelled", "Lines", "Pairs", "Purpose", "Stream"]

Purpose = Literal["translation", "language", "labelling"]  # what data are for, and what a model can do

Files = Annotated[
    tuple[str, ...],
    Meta(
        description="TSV files, or a source and its target file, then the next; `x.{en,de}` stands for both; .gz, .xz, "
        ".zst are read"
    ),
]


BadUtf8 = Annotated[
    Literal["error", "skip"], Meta(description="a line that is not UTF-8 ends the run, or is dropped (with its pair)")
]


class Pairs(Settings, frozen=True, kw_only=True, tag_field="kind", tag="pairs"):
    """Parallel text: each line has a source and a target side."""

    purpose: ClassVar[Purpose] = "translation"

    train: Annotated[Files, HARMLESS]
    dev: Annotated[tuple[str, ...], Meta(description="like train: validated on while training; may be left out")] = ()
    source: Annotated[str, Meta(description="name of the source language, for display"), HARMLESS] = "source"
    target: Annotated[str, Meta(description="name of the target language, for display"), HARMLESS] = "target"
    maximum_length: Annotated[int, Meta(ge=1, description="drop training pairs with a longer side, in tokens")] = 256
    bad_utf8: BadUtf8 = "error"
    drop_overlap: Annotated[
        bool, Meta(description="drop training pairs whose source also stands in the development set")
    ] = False


Texts = Annotated[
    tuple[str, ...], Meta(min_length=1, description="text files, read one after the other; .gz, .xz, .zst are read")
]
DevTexts = Annotated[tuple[str, ...], Meta(description="like train: validated on while training; may be left out")]


class Stream(Settings, frozen=True, kw_only=True, tag_field="kind", tag="stream"):
    """Text in one language as one stream of tokens; `</s>` stands for each line's end."""

    purpose: ClassVar[Purpose] = "language"

    train: Annotated[Texts, HARMLESS]
    dev: DevTexts = ()
    window: Annotated[
        int, Meta(ge=1, description="tokens that a row reads in one step, and all that self-attention sees at once")
    ] = 64
    partition: Annotated[
        Literal["auto", "sequential", "random"],
        Meta(
            description="each row goes on where it stopped, its state carried over, or windows in random order; auto: "
            "the first for recurrent models"
        ),
    ] = "auto"
    bad_utf8: BadUtf8 = "error"


class Lines(Settings, frozen=True, kw_only=True, tag_field="kind", tag="lines"):
    """Text in one language, each line a sequence of its own that ends in `</s>`."""

    purpose: ClassVar[Purpose] = "language"

    train: Annotated[Texts, HARMLESS]
    dev: DevTexts = ()
    maximum_length: Annotated[int, Meta(ge=1, description="drop training lines that are longer, in tokens")] = 256
    bad_utf8: BadUtf8 = "error"


class Labelled(Settings, frozen=True, kw_only=True, tag_field="kind", tag="labelled"):
    """Tokens with labels: a token a line, the label in its last TAB-separated column, blank lines between sentences."""

    purpose: ClassVar[Purpose] = "labelling"

    train: Annotated[
        tuple[str, ...], Meta(min_length=1, description="files of labelled tokens; .gz, .xz, .zst are read"), HARMLESS
    ]
    dev: Annotated[tuple[str, ...], Meta(description="like train: validated on while training; may be left out")] = ()
    maximum_length: Annotated[int, Meta(ge=1, description="drop training sentences that are longer, in tokens")] = 256


Data = Pairs | Stream | Lines | Labelled
