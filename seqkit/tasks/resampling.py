"""Training text that is cut anew for every epoch (subword regularisation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from seqkit.data.datasets import Encoded
from seqkit.text.codec import Codec
from seqkit.text.subword_sampling import Segmentation

__all__ = ["Resample", "replace_examples", "resample"]

Resample = Callable[[int], Encoded]  # from a seed to another cut of the same lines


def resample(codec: Codec, lines: Encoded) -> Resample | None:
    """What cuts encoded lines anew; None where the text layer does not sample."""
    draw = codec.resampler(Segmentation(lines.ids, lines.offsets))
    if draw is None:
        return None
    return lambda seed: Encoded(*draw(seed))


def replace_examples(new: Encoded, old: Encoded, from_old: NDArray[np.int64]) -> Encoded:
    """The new sequences, but for those whose old form is kept."""
    both = Encoded(np.concatenate((new.ids, old.ids)), np.concatenate((new.offsets, len(new.ids) + old.offsets[1:])))
    chosen = np.arange(len(new))
    chosen[from_old] += len(new)
    return both.take(chosen)
