"""Text that is cut anew: the same lines, and of those that grew too long the cut they had."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.datasets import Encoded
from seqkit.settings import SentencePiece
from seqkit.tasks.resampling import replace_examples, resample
from seqkit.text import Codec

LINES = ["the lower the newest", "low lower lowest newer newest wide wider widest", "the new wide low"] * 4
SEQUENCES = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6)


@given(SEQUENCES, st.data())
def test_each_sequence_is_the_new_or_the_old_one(old: list[list[int]], data: st.DataObject) -> None:
    new = data.draw(st.lists(st.lists(st.integers(10, 19), max_size=4), min_size=len(old), max_size=len(old)))
    back = sorted(data.draw(st.sets(st.integers(0, len(old) - 1), max_size=len(old)))) if old else []
    mixed = replace_examples(Encoded.from_lists(new), Encoded.from_lists(old), np.array(back, dtype=np.int64))
    assert [mixed[i].tolist() for i in range(len(mixed))] == [(old if i in back else new)[i] for i in range(len(old))]


def test_lines_keep_their_text_and_depend_on_the_seed() -> None:
    codec = Codec.learn(LINES, SentencePiece(size=300, sampling=0.3))
    best = Encoded.from_lists(codec.encode_many(LINES))
    anew = resample(codec, best)
    assert anew is not None
    cuts = [anew(seed) for seed in (1, 2, 1)]
    assert cuts[0].fingerprint == cuts[2].fingerprint != cuts[1].fingerprint
    for cut in cuts:
        assert [codec.decode(cut[i].tolist()) for i in range(len(cut))] == LINES
