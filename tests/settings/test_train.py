"""How a run is trained: what a setting that is found later stands for until then."""

from __future__ import annotations

from seqkit.settings import Train


def test_a_batch_to_be_found_counts_as_the_default_until_then() -> None:
    assert Train(batch_tokens="auto").budget == Train().budget == Train().batch_tokens
    assert Train(batch_tokens=77).budget == 77
