"""How translations are looked for: `[search]`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seqkit.settings.base import Settings

__all__ = ["Search"]


class Search(Settings, frozen=True, kw_only=True):
    """Beam search; `beam = 1` is greedy decoding."""

    beam: Annotated[int, Meta(ge=1, description="hypotheses kept at each step")] = 5
    nbest: Annotated[int, Meta(ge=1, description="hypotheses returned for each line; at most the beam")] = 1
    length_reward: Annotated[
        float, Meta(ge=0, description="a: log-probabilities are divided by length^a; 0 = none, 1 = mean per token")
    ] = 1.0
    minimum_length: Annotated[int, Meta(ge=0, description="shortest translation, in tokens")] = 0
    maximum_length: Annotated[int, Meta(ge=1, description="longest translation, in tokens, whatever the source")] = 512
    maximum_ratio: Annotated[
        float, Meta(gt=0, description="longest translation, in tokens for each source token (see maximum_extra)")
    ] = 2.0
    maximum_extra: Annotated[int, Meta(ge=0, description="added to maximum_ratio x source tokens")] = 20
    batch_tokens: Annotated[int, Meta(ge=1, description="source tokens x beam per batch, padding included")] = 8192
