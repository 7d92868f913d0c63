"""How text becomes ids: `[text]`, one Struct per tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from seqkit.settings.base import Settings

__all__ = ["Characters", "SentencePiece", "Text", "Words"]

Normaliser = Literal["nfc", "nfkc", "lower", "spaces", "quotes"]


class Common(Settings, frozen=True, kw_only=True):
    """What every tokenizer has."""

    normalise: Annotated[tuple[Normaliser, ...], Meta(description="normalising steps, applied in this order")] = (
        "nfc",
    )
    joint: Annotated[bool, Meta(description="one vocabulary for both languages")] = True
    from_: Annotated[
        str | None, Meta(description="take the text layer of this run or model folder instead of learning one")
    ] = field(name="from", default=None)


class Characters(Common, frozen=True, kw_only=True, tag_field="kind", tag="characters"):
    """One token a character."""

    size: Annotated[
        Annotated[int, Meta(ge=5)] | None, Meta(description="keep at most this many tokens, special ones included")
    ] = None
    minimum_count: Annotated[int, Meta(ge=1, description="rarer characters become <unk>")] = 1


class Words(Common, frozen=True, kw_only=True, tag_field="kind", tag="words"):
    """Words and punctuation marks, split as written: for teaching and for text that is already tokenised."""

    size: Annotated[
        Annotated[int, Meta(ge=5)] | None, Meta(description="keep at most this many tokens, special ones included")
    ] = None
    minimum_count: Annotated[int, Meta(ge=1, description="rarer words become <unk>")] = 1
    split: Annotated[
        Literal["punctuation", "spaces"],
        Meta(description="also split punctuation off words, or only at white space"),
    ] = "punctuation"


class SentencePiece(Common, frozen=True, kw_only=True, tag_field="kind", tag="sentencepiece"):
    """Subword pieces learnt from the training text (Kudo and Richardson, 2018)."""

    algorithm: Annotated[
        Literal["bpe", "unigram"], Meta(description="byte-pair merges or a unigram language model")
    ] = "bpe"
    size: Annotated[int, Meta(ge=5, le=2**31 - 1, description="pieces in the vocabulary, special ones included")] = 8000
    byte_fallback: Annotated[
        bool, Meta(description="spell unknown characters in bytes, so that nothing is unknown")
    ] = True
    character_coverage: Annotated[
        float, Meta(gt=0, le=1, description="share of the text's characters that get a piece of their own")
    ] = 1.0
    sampling: Annotated[
        float,
        Meta(
            ge=0, lt=1, description="BPE-dropout rate, or unigram sampling smoothness, for the training part; 0 = off"
        ),
    ] = 0.0


Text = SentencePiece | Words | Characters
