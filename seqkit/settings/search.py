"""How translations are looked for: `[search]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seqkit.metrics.sacrebleu_scores import Utility
from seqkit.settings.base import Settings

__all__ = ["Normalisation", "Search", "Utility"]

Normalisation = Literal["power", "gnmt"]


class Search(Settings, frozen=True, kw_only=True):
    """Beam search; `beam = 1` is greedy decoding."""

    method: Annotated[
        Literal["beam", "sample", "minimum_risk"],
        Meta(description="beam search, random draws, or of many draws the one most like the others"),
    ] = "beam"
    beam: Annotated[int, Meta(ge=1, le=1000, description="hypotheses kept at each step")] = 5
    nbest: Annotated[int, Meta(ge=1, description="hypotheses returned for each line; at most the beam")] = 1
    patience: Annotated[
        float,
        Meta(ge=0, description="stop when patience x beam hypotheses have ended; 0 = when nothing better can come"),
    ] = 2.0
    length_reward: Annotated[
        float, Meta(ge=0, description="a: log-probabilities are divided by length^a; 0 = none, 1 = mean per token")
    ] = 1.0
    length_normalisation: Annotated[
        Normalisation, Meta(description="power: length^a; gnmt: ((5 + length) / 6)^a, a = length_reward")
    ] = "power"
    coverage_penalty: Annotated[
        float, Meta(ge=0, description="weight of source tokens left without attention when the n-best are ranked")
    ] = 0.0
    minimum_length: Annotated[int, Meta(ge=0, description="shortest translation, in tokens")] = 0
    maximum_length: Annotated[int, Meta(ge=1, description="longest translation, in tokens, whatever the source")] = 512
    maximum_ratio: Annotated[
        float, Meta(gt=0, description="longest translation, in tokens for each source token (see maximum_extra)")
    ] = 2.0
    maximum_extra: Annotated[int, Meta(ge=0, description="added to maximum_ratio x source tokens")] = 20
    no_repeat: Annotated[int, Meta(ge=0, description="no so many tokens in a row occur twice; 0 = they may")] = 0
    repetition_penalty: Annotated[
        float, Meta(ge=1, le=1000, description="log-probabilities of tokens that have occurred are multiplied by this")
    ] = 1.0
    ban: Annotated[tuple[str, ...], Meta(description="words or phrases that never occur")] = ()
    groups: Annotated[
        int, Meta(ge=1, description="parts of the beam that avoid each other's tokens (diverse beam); divides the beam")
    ] = 1
    diversity: Annotated[float, Meta(ge=0, description="how much: taken off for each group that chose the token")] = 0.5
    temperature: Annotated[
        float, Meta(ge=0.001, le=1000, description="sampling: below 1 the likely becomes likelier")
    ] = 1.0
    top_k: Annotated[int, Meta(ge=0, description="sampling: among so many likeliest tokens; 0 = all")] = 0
    nucleus: Annotated[
        float, Meta(gt=0, le=1, description="sampling: among the fewest tokens with this probability together")
    ] = 1.0
    seed: Annotated[int, Meta(ge=0, description="sampling: the same seed, the same text")] = 0
    samples: Annotated[int, Meta(ge=2, le=10_000, description="minimum risk: how many draws are compared")] = 32
    utility: Annotated[Utility, Meta(description="minimum risk: what makes two texts alike")] = "chrf"
    language_model: Annotated[
        str | None, Meta(description="run folder of a language model with the same target tokens that helps to choose")
    ] = None
    language_model_weight: Annotated[float, Meta(ge=0, description="how much its log-probabilities count")] = 0.1
    precision: Annotated[
        Literal["float32", "bf16"],
        Meta(description="bf16: a Transformer's products in half the bits, faster and not quite the same"),
    ] = "float32"
    batch_tokens: Annotated[int, Meta(ge=1, description="source tokens x beam per batch, padding included")] = 4096
